"""What a comparison runs; table `[compare]` of the configuration file."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError

from model.settings import DeviceChoice, Settings, refused

ALL, ABLATIONS = "all", "ablations"
Seed = Annotated[int, Field(ge=0)]
Values = Mapping[str, Any]
"""Setting values by dotted key, as `fine_tuning.learning_rate`."""


class CompareSettings(Settings):
    """One comparison."""

    systems: Annotated[tuple[str, ...], Field(min_length=1)] = (ALL,)
    """Names of systems; `all` stands for every one that is known but the ablations, `ablations`
    for RecGURU without one part after the other."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """Each system is trained once with each; one that draws nothing only with the first."""

    trials: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Settings each system is tried with on validation rows; 1 takes the defaults untried."""

    against: str | None = None
    """System whose difference to all others is reported beside that to the best baseline; by
    default `sasrec-strong` where it is compared."""

    resamples: Annotated[int, Field(ge=100)] = 1000
    """Bootstrap resamples of the users."""

    question_seed: Seed = 0
    """What the sampled negatives are drawn with, the same for all systems."""

    newcomer_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the shared users who are two users each in the data that systems are tuned on and
    fitted to, drawn with `question_seed`: the slice `newcomers`. 0 sets nobody apart."""

    device: DeviceChoice = "cpu"
    """`cpu`, `cuda` or `auto`, for systems that can train on either."""

    settings: Mapping[str, Mapping[str, Any]] = {}
    """By system: values that replace its defaults, nested as its settings are."""

    spaces: Mapping[str, Mapping[str, Annotated[Sequence[Any], Field(min_length=1)]]] = {}
    """By system: values to try by dotted key, in place of its own search space."""


def with_values(settings: Settings, values: Values, *, given_in: str) -> Settings:
    """Replace some values of settings and check them again.

    Args:
        settings: What to change.
        values: New values by dotted key.
        given_in: The table of the configuration, for the message.

    Raises:
        BadSettingError: If a key is unknown or a value is refused.
    """
    changed = settings.model_dump()
    for key, value in values.items():
        *tables, last = key.split(".")
        table = changed
        for name in tables:
            below = table.get(name)
            table[name] = dict(below) if isinstance(below, Mapping) else {}
            table = table[name]
        table[last] = value
    try:
        return type(settings).model_validate(changed)
    except ValidationError as error:
        raise refused(error, given_in) from None


def flattened(nested: Mapping[str, Any], *, above: str = "") -> dict[str, Any]:
    """Spell nested tables by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, above=f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat
