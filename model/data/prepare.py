"""Interaction logs of two domains to a dataset folder: read, narrow, link, write.

One domain is read and narrowed after the other, so that at most one of them is held with its times.
The same files and options give the same bytes: ids are ordered before anything depends on their
order, and the manifest holds neither times nor folders.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from model.data.dataset import DomainData, write_dataset
from model.data.histories import Histories, resampled, shared_places
from model.data.log import load
from model.data.prepare_settings import PrepareSettings, with_defaults
from model.data.report import dataset_report
from model.data.sources import READERS
from model.data.sources.reading import Reader, Reading, Wanted
from model.data.sources.text import check_file, reading_of
from model.data.sources.titles import read_titles
from model.data.steps import Account, Counts, narrow
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadDataError, BadSettingError
from model.files import publishing, sha256_of

_NAME = re.compile(r"[a-z0-9_-]+")
_LOG_ENDING, _TITLES_ENDING = ".sequences.tsv", ".items.tsv"


@dataclass(frozen=True, slots=True)
class DomainInput:
    """The files of one domain."""

    name: str
    log: Path
    titles: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """What each of them is to the domain, and where it lies."""
        return {"log": self.log} | ({"titles": self.titles} if self.titles else {})


Advance = Callable[[int], None]


def prepare(
    inputs: tuple[DomainInput, DomainInput],
    settings: PrepareSettings,
    out: Path,
    *,
    advance: Advance = lambda _: None,
) -> dict[str, Any]:
    """Write a dataset folder from the logs of two domains; on failure nothing appears at `out`.

    Args:
        inputs: The two domains; their order is the dataset's.
        settings: The options.
        out: Where the folder is to appear.
        advance: Told how many bytes of the logs were read since the last call.

    Returns:
        The digest and the report, as `model.data.report.read_report` reads them again.

    Raises:
        BadDataError: If a file is missing, empty, damaged, not in its format or changes meanwhile,
            or nothing of a domain is left; the message names the file and the line, or the steps.
        BadSettingError: If the names or the options do not fit the files.
        RecGuruError: If there is something at `out`.
    """
    _check(inputs)
    found = {path: _state(path) for domain in inputs for path in domain.files.values()}
    settings = with_defaults(settings)
    with publishing(out) as folder:
        accounts, domains = [], []
        for domain in inputs:
            account, histories = _narrowed(domain, settings, advance)
            accounts.append(account)
            domains.append(histories)
        first, second = domains
        if settings.shared_rate is not None:
            first, second = resampled(first, second, settings.shared_rate, seed=settings.seed)
            for account, left in zip(accounts, (first, second), strict=True):
                account.record("shared rate", f"{settings.shared_rate:g}", _counts(left))
        report = _write(folder, inputs, settings, accounts, (first, second))
        _check_unchanged(found)
    return report


def titles_beside(log: Path) -> Path | None:
    """Find `NAME.items.tsv` beside `NAME.sequences.tsv`, plain or gzip."""
    name = log.name.removesuffix(".gz")
    if not name.endswith(_LOG_ENDING):
        return None
    stem = name.removesuffix(_LOG_ENDING)
    places = (log.with_name(stem + _TITLES_ENDING + ending) for ending in ("", ".gz"))
    return next((place for place in places if place.is_file()), None)


def _check(inputs: Sequence[DomainInput]) -> None:
    for domain in inputs:
        if not _NAME.fullmatch(domain.name):
            raise BadSettingError(f"domain name {domain.name!r} may hold only a-z, 0-9, _ and -")
        for path in domain.files.values():
            check_file(path)
    if inputs[0].name == inputs[1].name:
        raise BadSettingError(f"both domains are called {inputs[0].name!r}; they need two names")


def _narrowed(
    domain: DomainInput, settings: PrepareSettings, advance: Advance
) -> tuple[Account, Histories]:
    columns = {str(ours): theirs for ours, theirs in settings.columns.items()}
    wanted = Wanted(columns, settings.min_rating is not None, settings.verified_only)
    reading = Reading(domain.log, wanted, advance)
    log = load(_checked_frames(READERS[settings.format], reading))
    account = Account(domain.name, log)
    account.notes += reading.notes
    account.records, account.unusable = reading.records, reading.unusable
    account.warnings += reading.warnings
    narrow(log, account, settings)
    return account, Histories.of(log)


def _checked_frames(reader: Reader, reading: Reading) -> Iterator[pl.DataFrame]:
    yield from reader(reading)
    reading.finish()


def _counts(histories: Histories) -> Counts:
    lengths = histories.sequences.lengths
    return Counts(len(lengths), len(histories.item_ids), int(lengths.sum()))


def _write(
    folder: Path,
    inputs: Sequence[DomainInput],
    settings: PrepareSettings,
    accounts: Sequence[Account],
    domains: tuple[Histories, Histories],
) -> dict[str, Any]:
    shared = shared_places(domains[0].user_ids, domains[1].user_ids)
    first, second = (
        _domain_data(domain, histories, account)
        for domain, histories, account in zip(inputs, domains, accounts, strict=True)
    )
    report = dataset_report(accounts, domains, shared=len(shared))
    made = {
        "command": "prepare",
        "inputs": {domain.name: _origin(domain) for domain in inputs},
        "options": settings.model_dump(mode="json"),
    }
    digest = write_dataset(folder, (first, second), shared, made=made, report=report)
    return {"digest": digest, **report}


def _domain_data(domain: DomainInput, histories: Histories, account: Account) -> DomainData:
    titles = None
    if domain.titles is not None:
        item_ids = histories.item_ids.to_list()
        reading = Reading(domain.titles)
        known = read_titles(reading, set(item_ids))
        account.warnings += reading.warnings
        titles = StringTable.of(known.get(item_id, "") for item_id in item_ids)
        account.notes.append(
            f"{domain.name}: titles of {len(known)} of {len(item_ids)} items"
            f" from {domain.titles.name}"
        )
    vocabulary = Vocabulary(_table(histories.item_ids), titles)
    return DomainData(domain.name, vocabulary, _table(histories.user_ids), histories.sequences)


def _table(ids: pl.Series) -> StringTable:
    text = ids.str.join("").item().encode()
    ends = ids.str.len_bytes().cast(pl.Int64).cum_sum().to_numpy()
    return StringTable(np.frombuffer(text, np.uint8), ends)


def _origin(domain: DomainInput) -> dict[str, Any]:
    """Say what a domain was made from, without where it lay."""
    origin = {}
    for role, path in domain.files.items():
        with reading_of(path):
            size, digest = path.stat().st_size, sha256_of(path)
        origin[role] = {"file": path.name, "bytes": size, "sha256": digest}
    return origin


def _state(path: Path) -> tuple[int, int]:
    """Return what changes when somebody writes to a file: its size, and the time of that in ns."""
    with reading_of(path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns


def _check_unchanged(found: Mapping[Path, tuple[int, int]]) -> None:
    """Refuse files that the manifest describes otherwise than they were when they were read."""
    for path, state in found.items():
        if _state(path) != state:
            raise BadDataError(
                f"{path} has changed while it was read; run this again when nobody writes to it"
            )
