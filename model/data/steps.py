"""What preparation takes out of a log, step by step, and the account it keeps of that.

The steps of sections 4.1 and 6.3, in this order: bad ids, other actions, unverified purchases,
ratings, time window, [sorting], duplicates, repeats, k-core, length. A k-core is stable when the
lengths are checked, so `min_length` above `core` can leave items with fewer interactions than
`core`.
Shapes: n interactions.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays import Flags
from model.data.log import Codes, Log, sound_ids
from model.data.ordering import repeated_events, repeated_items, sort
from model.data.prepare_settings import PAPER_SINCE, PrepareSettings, seconds
from model.data.vocabulary import MAX_ID_BYTES
from model.errors import BadDataError, BadSettingError

STATED_ORDER = ("sequences", "collected")
"""Formats whose files state the order inside a user, also where times are equal."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of something there is."""

    users: int
    items: int
    interactions: int

    def minus(self, other: "Counts") -> "Counts":
        """Subtract count by count."""
        return Counts(
            self.users - other.users,
            self.items - other.items,
            self.interactions - other.interactions,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    name: str
    rule: str
    """What it kept, in words."""
    removed: Counts
    left: Counts


class Account:
    """What each step took out of one domain's log."""

    def __init__(self, domain: str, log: Log) -> None:
        self.domain = domain
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.records = 0
        """Lines or rows of the log."""
        self.unusable = 0
        """Those of them that could not be used."""
        self._left = Counts(*log.counts())
        self._steps = [Step("read", "", Counts(0, 0, 0), self._left)]
        self._check_left()

    def keep(self, log: Log, name: str, rule: str, mask: Flags) -> None:
        """Keep the interactions of a mask (n,) and note what that removed.

        Raises:
            BadDataError: If nothing is left; with what every step so far removed.
        """
        left = self._left
        if not mask.all():
            log.select(mask)
            left = Counts(*log.counts())
        self.record(name, rule, left)

    def record(self, name: str, rule: str, left: Counts) -> None:
        """Note a step that was done elsewhere; raises as `keep` does."""
        self._steps.append(Step(name, rule, self._left.minus(left), left))
        self._left = left
        self._check_left()

    def steps(self) -> list[dict[str, Any]]:
        """Return the steps as the report holds them."""
        return [asdict(step) for step in self._steps]

    def _check_left(self) -> None:
        if self._left.interactions:
            return
        read, *steps = self._steps
        if not steps:
            raise BadDataError(f"domain {self.domain}: its log holds no interactions")
        removed = "; ".join(
            f"{step.name} ({step.rule}) removed {step.removed.interactions}" for step in steps
        )
        raise BadDataError(
            f"domain {self.domain}: nothing is left of {read.left.interactions} interactions"
            f" read: {removed}"
        )


def narrow(log: Log, account: Account, settings: PrepareSettings) -> None:
    """Do all steps on one domain; its log is sorted by user and time afterwards.

    Args:
        log: The log as it was read; is changed, and loses its times.
        account: Where the steps are noted.
        settings: The options, with the format's defaults filled in.

    Raises:
        BadDataError: If nothing is left.
        BadSettingError: If a time window is asked for and the log has no times.
    """
    sound = sound_ids(log.user_ids)[log.user] & sound_ids(log.item_ids)[log.item]
    account.keep(
        log, "bad ids", f"neither empty, garbled nor longer than {MAX_ID_BYTES} bytes", sound
    )
    _filter_marks(log, account, settings)
    _filter_times(log, account, settings)
    sort(log, seed=settings.seed, stated=settings.format in STATED_ORDER)
    if log.time is not None:
        account.keep(
            log, "duplicates", "one of the same user, item and time", ~repeated_events(log)
        )
        log.time = None  # sorted, and needed no more
    if settings.collapse_repeats:
        account.keep(log, "repeats", "one of equal items in a row", ~repeated_items(log))
    if settings.core:
        single = settings.core_passes == "single"
        rule = f"{settings.core} each, {settings.core_passes}"
        account.keep(log, "k-core", rule, core(log, settings.core, single=single))
    if settings.min_length and settings.min_length > 1:
        long = np.bincount(log.user) >= settings.min_length
        account.keep(log, "length", f"{settings.min_length} or more", long[log.user])


def core(log: Log, least: int, *, single: bool) -> Flags:
    """Find the interactions whose user and item each keep at least so many of them, (n,).

    Args:
        log: The interactions.
        least: Interactions each user and each item must have among those kept.
        single: Whether one pass over the items and then one over the users is all, after which an
            item can have fewer; else repeated until nothing changes.
    """
    user, item = log.user, log.item
    users = np.ones(len(log.user_ids), np.bool_)
    items = np.ones(len(log.item_ids), np.bool_)
    while True:
        before = len(user)
        items &= _counts(item, len(items)) >= least
        user, item = _where(items[item], user, item)
        users &= _counts(user, len(users)) >= least
        user, item = _where(users[user], user, item)
        if single or len(user) == before:
            return users[log.user] & items[log.item]


def _where(mask: Flags, user: Codes, item: Codes) -> tuple[Codes, Codes]:
    return (user, item) if mask.all() else (user[mask], item[mask])


def _counts(places: Codes, total: int) -> NDArray[np.intp]:
    return np.bincount(places, minlength=total)


def _filter_marks(log: Log, account: Account, settings: PrepareSettings) -> None:
    marks = log.marks
    if "positive" in marks:
        account.keep(log, "other actions", "click or finish", marks["positive"])
        del marks["positive"]
    if "verified" in marks:
        account.keep(log, "unverified", "verified purchases", marks["verified"])
        del marks["verified"]
    if "rating" in marks and settings.min_rating is not None:
        mask = marks["rating"] > settings.min_rating
        account.keep(log, "ratings", f"above {settings.min_rating:g}", mask)
    marks.pop("rating", None)


def _filter_times(log: Log, account: Account, settings: PrepareSettings) -> None:
    since, until = seconds(settings.since), seconds(settings.until)
    if log.time is None:
        if since is not None or until is not None:
            raise BadSettingError(
                f"setting data.since, data.until: the log of {account.domain} states no times"
            )
        return
    words = settings.since
    if settings.since is None and settings.format in PAPER_SINCE:
        words = PAPER_SINCE[settings.format]
        since = seconds(words)
        if since is not None and log.time.max() < since * log.ticks_per_second:
            account.notes.append(f"{account.domain} ends before {words}; no time window is applied")
            since = None
    if since is not None:
        account.keep(log, "since", f"from {words} on", log.time >= since * log.ticks_per_second)
    if until is not None:
        rule = f"before {settings.until}"
        account.keep(log, "until", rule, log.time < until * log.ticks_per_second)
