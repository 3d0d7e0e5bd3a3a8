"""The options of preparation, and what each format takes where the caller says nothing."""

import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from model.data.formats import CorePasses, Format
from model.errors import BadSettingError
from model.settings import Settings

NONE = "none"
"""How the caller says that a bound of the time window is not wanted."""
_DATE_DIGITS = (4, 8)
"""Digits of a year and of a date without hyphens."""


class PrepareSettings(Settings):
    """How logs become a dataset. What is left out takes the format's own value; see `DEFAULTS`."""

    format: Format
    """What the files are: sequences, amazon, table or collected."""
    columns: Mapping[Literal["user", "item", "time", "rating"], str] = Field(default_factory=dict)
    """Which column holds what: names (table), or the places 1 and 2 (amazon without a header)."""
    min_rating: float | None = None
    """Keep ratings above this one; amazon 2, else every rating."""
    since: str | None = None
    """Keep what happened at or after this ISO date or these unix seconds, or `none`;
    amazon 2017-10-02 for files that reach beyond it, else `none`."""
    until: str | None = None
    """Keep what happened before this ISO date or these unix seconds, or `none`."""
    verified_only: bool = False
    """Keep verified purchases only (amazon)."""
    collapse_repeats: bool | None = None
    """Whether one of several equal items in a row is kept; collected yes, else no."""
    core: Annotated[int, Field(ge=0)] | None = None
    """Interactions each user and each item must keep; 0 for none; amazon 5, else 0."""
    core_passes: CorePasses = "stable"
    """Until nothing changes, or one pass over items, then users, as the published code does."""
    min_length: Annotated[int, Field(ge=1)] | None = None
    """Interactions a sequence must have; collected 6, else 1. Below 3 it serves training only."""
    shared_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Shared users to keep, as a share of the first domain's users; left out, all are kept."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the order of interactions at the same time, and which users stay shared."""

    @field_validator("since", "until", mode="before")
    @classmethod
    def _takes_numbers_and_dates(cls, moment: object) -> object:
        return str(moment) if isinstance(moment, int | float | date) else moment

    @field_validator("since", "until")
    @classmethod
    def _is_a_moment(cls, moment: str | None, info: ValidationInfo) -> str | None:
        bound, since = seconds(moment), seconds(info.data.get("since"))
        if bound is not None and since is not None and bound <= since:
            raise ValueError(f"must be after since, which is {info.data['since']}")
        return moment


DEFAULTS: Final[Mapping[Format, Mapping[str, Any]]] = MappingProxyType(
    {
        "sequences": {"collapse_repeats": False, "core": 0, "min_length": 1},
        "table": {"collapse_repeats": False, "core": 0, "min_length": 1},
        "amazon": {
            "min_rating": 2.0,
            "collapse_repeats": False,
            "core": 5,
            "min_length": 1,
        },
        # The paper: "length larger than 5".
        "collected": {"collapse_repeats": True, "core": 0, "min_length": 6},
    }
)

PAPER_SINCE: Final[Mapping[Format, str]] = MappingProxyType({"amazon": "2017-10-02"})
"""The window of the paper ("posted after October 1, 2017"), for files that reach beyond it."""


def with_defaults(settings: PrepareSettings) -> PrepareSettings:
    """Fill what the caller left out with the format's own values.

    Raises:
        BadSettingError: If an option asks for something that the format does not hold.
    """
    _check_format(settings)
    missing = {
        name: value
        for name, value in DEFAULTS[settings.format].items()
        if getattr(settings, name) is None
    }
    return settings.model_copy(update=missing)


def seconds(moment: str | None) -> float | None:
    """Turn an ISO date or unix seconds into unix seconds; None where there is no bound.

    A date without a time of day is its first moment, and one without a zone is in UTC.

    Raises:
        ValueError: If it is neither.
    """
    if moment is None or moment == NONE:
        return None
    refusal = ValueError(f"{moment!r} is neither an ISO date nor unix seconds")
    is_date = moment.isdecimal() and len(moment) in _DATE_DIGITS  # as seconds it would be of 1970
    if not is_date:
        with suppress(ValueError):
            number = float(moment)
            if not math.isfinite(number):
                raise refusal
            return number
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        raise refusal from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _check_format(settings: PrepareSettings) -> None:
    kind = settings.format
    if settings.min_rating is not None and kind not in ("amazon", "table"):
        raise BadSettingError(f"setting data.min_rating: the format {kind} has no ratings")
    if settings.verified_only and kind != "amazon":
        raise BadSettingError(f"setting data.verified_only: the format {kind} does not say it")
    if settings.columns and kind not in ("amazon", "table"):
        raise BadSettingError(f"setting data.columns: the format {kind} has fixed columns")
