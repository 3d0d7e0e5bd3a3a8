"""The networks of a training as they stand, asked like any other system.

Shapes: B users, V items.
"""

from collections.abc import Callable, Sequence

import numpy as np

from model.arrays import Floats
from model.evaluation.protocol import History, Users
from model.evaluation.validation import Validation
from model.inference import Inference
from model.scoring import exact_scores
from model.training.context import Context


class LiveScorer:
    """Scores by the networks in training as they stand; they must be in evaluation mode.

    Item tables are made once for all batches, so it is good for one look: weights move on.
    """

    def __init__(self, context: Context) -> None:
        names = [domain.name for domain in context.data.domains]
        networks, settings = context.networks.serving, context.settings.network
        self._networks = networks
        self._inference = Inference(networks, names, settings, context.device)
        self._tables: dict[str, Floats] = {}

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item of a domain for each user -> (B, V + 1)."""
        if domain not in self._tables:
            table = self._networks.recommender(domain).embedding.item_table()
            self._tables[domain] = table.cpu().numpy()
        preferred = self._inference.prefer(domain, histories)
        return exact_scores(self._tables[domain], preferred.preferences)


def validation_of(context: Context, *domains: str) -> Callable[[], float] | None:
    """Make the figure that fine-tuning is selected by: NDCG@10 between 0 and 1.

    It is the mean of the domains that have validation rows; none if no domain has any. The first
    process finds it out for all, so that all of them stop and go back alike.
    """
    validations = [Validation(context.data, domain) for domain in domains]
    asked = [validation for validation in validations if len(validation)]

    def figure() -> float:
        context.networks.eval()
        scorer = LiveScorer(context)
        return float(np.mean([each.ndcg_at_10(scorer) for each in asked]))

    return (lambda: context.team.told(figure)) if asked else None
