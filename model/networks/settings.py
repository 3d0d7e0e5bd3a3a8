"""The size of the networks; the sizes of the defaults are the paper's (sections 4.2, 6.1)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from model.settings import Settings

Memory = Literal["none", "own", "other", "cold", "both"]
"""Which GURs a recommender reads; see `NetworkSettings.memory`."""


class NetworkSettings(Settings):
    """What a bundle must know to rebuild its networks."""

    width: Annotated[int, Field(ge=2, le=1024)] = 64
    """Numbers in an item embedding, a GUR and a preference vector (the paper's d)."""

    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Attention heads of every layer; divides `width`."""

    layers: Annotated[int, Field(ge=1, le=24)] = 3
    """Transformer layers of the encoder, of each decoder and of each recommender."""

    feed_forward: Annotated[int, Field(ge=1, le=8192)] = 512
    """Hidden numbers of every feed-forward layer."""

    max_history: Annotated[int, Field(ge=1, le=4096)] = 100
    """Items of a history that are read, counted from the end (the paper's N)."""

    recent: Annotated[int, Field(ge=1, le=4096)] = 100
    """Items the recommender itself reads, from the end (the paper's m); at most `max_history`."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the numbers dropped while training; the paper names none."""

    encoder_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """As `dropout`, in the encoder, which then sees every item; none means it is as the other
    networks. What is dropped hides from the critic how the domains differ."""

    item_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the items of a history that a network does not see while training."""

    scaled_input: bool = False
    """Whether item embeddings are read sqrt(width) times as long as they are scored: what a step
    read then outweighs its position, and passes the layers."""

    scoring: Literal["inner", "cosine"] = "inner"
    """`inner` is equation 11 over free vectors; `cosine` holds item embeddings and preferences to
    length one, so that an item that is popular or rare is not scored by the length it has grown."""

    neighbours: Annotated[int, Field(ge=0, le=1000)] = 0
    """Likest items of the domain whose embeddings an item's own is averaged with where it is scored
    by a recommender, since most items have few users to learn from; 0 scores by its own alone."""

    memory: Memory = "both"
    """Which GURs a recommender reads: none, the target domain's own (equation 10), that of the
    other domain for users who are known there, the same for those alone who have no history in the
    target domain (`cold`), or both."""

    recent_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """With `cosine`: what an item of the history weighs in proportion to the next in the mean that
    is added to a recommender's output; 0 adds none."""

    bridge_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of users with no history in the target domain: what their preference vector of the other
    domain, brought to this one, weighs in the answer; the rest is what is read from the GUR, which
    answers alone where no shared user taught a bridge. 0 builds none. Needs a `memory` of `other`
    or `cold`: with the own GUR in it a preference vector may have been learned by heart as well."""

    bridge_hidden: Annotated[int, Field(ge=1, le=8192)] = 128
    """Hidden numbers of a bridge."""

    critic_layers: Annotated[int, Field(ge=1, le=16)] = 4
    """Fully connected layers of the critic."""

    critic_hidden: Annotated[int, Field(ge=1, le=8192)] = 128
    """Hidden numbers of the critic."""

    @property
    def stretch(self) -> int:
        """Rows a recommender learns from at once: as many as it reads, and what comes next."""
        return self.recent + 1

    @property
    def reads_own(self) -> bool:
        """Whether recommenders read the GUR of the history in the target domain."""
        return self.memory in {"own", "both"}

    @property
    def reads_others(self) -> bool:
        """Whether histories in other domains than the target count."""
        return self.memory in {"other", "cold", "both"}

    def of_encoder(self) -> Self:
        """Return the size of the encoder and its embeddings."""
        if self.encoder_dropout is None:
            return self
        return self.model_copy(update={"dropout": self.encoder_dropout, "item_dropout": 0.0})

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.recent > self.max_history:
            raise ValueError(f"recent {self.recent} is more than max_history {self.max_history}")
        if self.recent_decay and self.scoring != "cosine":
            raise ValueError("recent_decay needs scoring 'cosine'")
        if self.bridge_share and self.memory not in {"other", "cold"}:
            raise ValueError(
                f"bridge_share above 0 needs memory 'other' or 'cold', not {self.memory!r}"
            )
        return self
