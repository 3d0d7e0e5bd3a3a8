"""How a training goes; each phase of Algorithm 1 has its own table."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from model.networks.settings import NetworkSettings
from model.settings import Settings

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class PreTrainingSettings(Settings):
    """Phase one: the autoencoders learn to reconstruct (equation 5)."""

    epochs: Annotated[int, Field(ge=0)] = 10
    """Passes over the users of the larger domain."""

    batch_users: Count = 128
    """Users of each domain in a step."""

    item_start: Literal["joint", "neighbours", "random"] = "neighbours"
    """Where item embeddings start: by what stands near them in training rows, in a space of both
    domains (`joint`) or in one for each; or at random."""

    learning_rate: Rate = 1.0
    """Factor of width^-0.5 * min(step^-0.5, step * warmup_steps^-1.5) (section 6.1.3)."""

    warmup_steps: Count = 400
    """Steps over which the learning rate rises; a warm-up longer than the phase trains nothing."""

    negatives: Count = 1000
    """Items a step draws for the sampled softmax; with no more items in the domain it is exact."""


class AdversarialSettings(Settings):
    """Phase two: critic and encoder alternate, reconstruction goes on (equation 13)."""

    steps: Annotated[int, Field(ge=0)] = 100
    """Iterations, each of several critic steps and one generator step."""

    critic_steps: Count = 5
    """Critic steps in an iteration, or a step of joint fine-tuning (the paper's CRITIC_ITERS)."""

    batch_users: Count = 64
    """Users of each domain in a step, and shared users in a generator step."""

    learning_rate: Rate = 1e-4
    """Learning rate of encoder and decoders (section 6.1.3)."""

    critic_rate: Rate = 1e-4
    """Learning rate of the critic, here and in joint fine-tuning (section 6.1.3)."""

    penalty_weight: Weight = 10.0
    """Factor of the gradient penalty in the critic's loss."""

    whitened: bool = False
    """Whether the critic sees GURs whitened by the moments of a batch of both domains, here and in
    joint fine-tuning: else it does not see where domains differ little, but do differ."""

    adversarial_weight: Weight = 1.0
    """Factor of the Wasserstein distance in the generator's loss (equation 13: 1)."""

    shared_weight: Weight = 1.0
    """Factor of the l2 penalty of shared users in the generator's loss (equation 13: 1)."""

    negatives: Count = 1000
    """As in pre-training."""


class FineTuningSettings(Settings):
    """Phase three: each domain's recommender learns what comes next (equation 12)."""

    epochs: Annotated[int, Field(ge=0)] = 30
    """Most passes over the users of the domain, of the larger one in joint fine-tuning."""

    least_steps: Annotated[int, Field(ge=0)] = 0
    """Joint: steps that small data is passed over more often for, unless `epochs` is 0."""

    batch_users: Count = 128
    """Users in a step."""

    learning_rate: Rate = 1e-3
    """Learning rate at the start (section 6.1.3); it falls to zero in a straight line."""

    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """Adam's second beta. The paper names 0.9: ten steps, which is short for rare items."""

    loss: Literal["softmax", "bpr"] = "softmax"
    """`bpr` is equation 12, not in joint fine-tuning; `softmax` the cross entropy over all or
    sampled items."""

    negatives: Count = 1000
    """Items drawn per step, for either loss."""

    patience: Count = 5
    """Validations without a better NDCG@10 after which the phase ends."""

    validation_steps: Count = 50
    """Least steps between two validations; at most one an epoch."""

    hide_other: Share = 0.25
    """Share of shared users, drawn anew each step, whose GUR of the other domain is hidden."""

    joint: bool = False
    """Train both recommenders and the encoder together, instead of one recommender at a time over
    an encoder that is fixed (the paper's way)."""

    item_start: Literal["encoder", "neighbours"] = "encoder"
    """Joint: where the items of the recommenders start: where the encoder's are, or by what stands
    near them in training rows of their own domain."""

    cold_weight: Weight = 0.0
    """Joint: factor of the loss of shared users whose target history is hidden; with a network
    `memory` of `own` or `none`, which holds no GUR to answer them from, it must be 0."""

    cold_rows: Annotated[int, Field(ge=0)] = 0
    """Joint: how many of the latest rows of a hidden history that loss asks for; 0 for all."""

    reconstruction_weight: Weight = 0.0
    """Joint: factor of the reconstruction loss (equation 13: 1) of the users of the batch; 0 trains
    no autoencoder."""

    adversarial_weight: Weight = 0.0
    """Joint: factor of the Wasserstein distance, as in equation 13, at the end; it rises from
    nothing in a straight line. 0 trains no critic."""

    shared_weight: Weight = 0.0
    """Joint: factor of `shared_loss`."""

    shared_loss: Literal["l2", "contrastive"] = "l2"
    """Joint: what ties a shared user's GURs: equation 9, or that they be nearer than others'."""

    contrast_temperature: Rate = 0.1
    """Joint: what likeness is divided by in the contrastive loss."""

    shared_users: Count = 64
    """Joint: shared users that a step draws for these losses."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.joint and self.loss != "softmax":
            raise ValueError(f"joint fine-tuning learns by loss 'softmax', not {self.loss!r}")
        return self


class BridgingSettings(Settings):
    """Phase four, beyond the paper: bridges learn on shared users, if `network.bridge_share`."""

    steps: Annotated[int, Field(ge=0)] = 1000
    """Most steps."""

    batch_users: Count = 256
    """Shared users in a step."""

    learning_rate: Rate = 1e-3
    """Learning rate, all the way."""

    negatives: Count = 1000
    """As in pre-training."""

    patience: Count = 8
    """Looks at the shared users kept back, some steps apart, without a smaller loss after which the
    phase ends."""


class TrainSettings(Settings):
    """One training: table `[train]`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Every draw follows from it: the same seed gives the same weights on the CPU."""

    threads: Count = 1
    """CPU threads. More than one pays only on cores that nothing else uses: two threads that share
    two cores with other work were up to seven times slower than one. Other counts, other bits."""

    temperature: Rate = 0.13
    """With cosine scoring: what a cosine is divided by in a softmax."""

    dense_items: Annotated[int, Field(ge=0)] = 200_000
    """Most items of a domain all of whose embeddings a step moves; with more it moves those that
    it has looked up, so that its time does not grow with the catalogue."""

    row_rate: Rate = 3.0
    """Factor of the learning rate of embeddings that move only when they are looked up."""

    untied_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the shared users whom training takes for two users each: alignment is judged on
    them too."""

    checkpoint_steps: Count = 200
    """Steps between two checkpoints; one is also written where a phase ends."""

    network: NetworkSettings = NetworkSettings()
    """The size of the networks."""

    pre_training: PreTrainingSettings = PreTrainingSettings()
    """Phase one."""

    adversarial: AdversarialSettings = AdversarialSettings()
    """Phase two."""

    fine_tuning: FineTuningSettings = FineTuningSettings()
    """Phase three."""

    bridging: BridgingSettings = BridgingSettings()
    """Phase four."""

    @model_validator(mode="after")
    def _cold_starts_read(self) -> Self:
        asked = self.fine_tuning.joint and self.fine_tuning.cold_weight
        if asked and not self.network.reads_others:
            raise ValueError(
                "fine_tuning.cold_weight above 0 needs a memory that holds the other GUR, not"
                f" {self.network.memory!r}"
            )
        return self
