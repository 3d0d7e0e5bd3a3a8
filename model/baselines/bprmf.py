"""BPRMF: matrix factorisation learned by pairwise ranking, each domain for itself.

Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009: the score
x_ui = p_u . q_i (their section 4.3.1), learned by BPR-Opt; see `model.baselines.factors`. Here an
item has a worth b_i to anyone beside its vector, a training row has several negatives, and the step
size is Adagrad's. A user who is not known in a domain is answered by popularity.
"""

from functools import partial

from model.baselines.factor_system import DomainFactors, FactorSystem
from model.baselines.factors import Examples, Factors, FactorSettings, Pass, learn, torch_generator
from model.baselines.system import Tensors
from model.data.training_data import TrainingData
from model.evaluation.validation import Validation


class BprmfSettings(FactorSettings):
    """Vectors of users and items of each domain, and how they are learned."""


class Bprmf:
    """The kind of system: `fit` learns one, `restore` takes one back."""

    @classmethod
    def fit(cls, data: TrainingData, settings: BprmfSettings, *, seed: int) -> FactorSystem:
        """Factorise both domains, one after the other; see `Kind.fit`."""
        return FactorSystem(data, domain_factors(data, settings, seed=seed))

    @classmethod
    def restore(cls, data: TrainingData, settings: BprmfSettings, tensors: Tensors) -> FactorSystem:
        """Take back a system; see `Kind.restore`."""
        return FactorSystem.restore(data, settings.width, tensors)


def domain_factors(
    data: TrainingData, settings: FactorSettings, *, seed: int
) -> dict[str, DomainFactors]:
    """Factorise each domain for itself -> its vectors by the name of the domain."""
    found = {}
    for place, domain in enumerate(data.domains):
        factors = Factors(
            len(domain.training), domain.items, settings.width, torch_generator(seed, place)
        )
        validation = Validation(data, domain.name)
        system = FactorSystem(data, {domain.name: factors.domain_factors()})
        examples = Examples.of(domain.training, domain.items)
        learn(
            [Pass(factors, examples, settings, (seed, place))],
            factors,
            partial(validation.ndcg_at_10, system) if len(validation) else None,
            settings,
        )
        found[domain.name] = factors.domain_factors()
    return found
