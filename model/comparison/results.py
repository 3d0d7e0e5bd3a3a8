"""What one run leaves on disk, and how it is found again.

    results/<system>-<seed>.json        facts, cost and figures of one trained system
    results/<system>-<seed>.ranks.npz   each question's ranks, for intervals; may be left out
    trials/<system>-<number>.json       one setting tried on validation rows

A file appears whole or not at all. `facts` say what a run was made from: a run whose facts are
equal is not done again. Shapes: Q questions, C cold questions.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model.arrays import Flags
from model.errors import BadArtifactError
from model.evaluation.protocol import Questions
from model.evaluation.ranking import Ranks
from model.files import canonical_json, write_bytes_atomically
from model.metrics import RankArray
from model.records import Record

RESULTS, TRIALS = "results", "trials"
SLICES = ("all", "shared", "short", "cold", "newcomers")
"""Whose figures are reported; `cold` are shared users whose target history is hidden, `newcomers`
those of them whose histories are two users' to every system."""

_LIBRARIES = ("recguru-service", "numpy", "torch")


class Facts(Record):
    """What a run was made from."""

    system: str
    dataset: str
    """The dataset's digest."""
    settings: dict[str, Any]
    seed: int
    question_seed: int
    newcomer_share: float = 0.0
    """Share of the shared users who were two users to the system."""
    device: str
    versions: dict[str, str]


class Outcome(Record):
    """What came of one setting on validation rows."""

    number: int
    """Its place in the order of trials; 0 are the defaults."""
    changes: dict[str, Any]
    """Where it differs from the defaults, by dotted key."""
    ndcg_at_10: dict[str, float]
    """By domain, full ranking of the validation rows; 0 where it failed."""
    mean: float
    """Of both domains; what is chosen by. -1 where it failed: behind every other."""
    minutes: float
    failure: str | None = None
    """Why training stopped itself, where it did."""


class Trial(Record):
    """One setting tried, as it is kept."""

    kind: Literal["recguru-trial"] = "recguru-trial"
    format_number: Literal[1] = 1
    facts: Facts
    outcome: Outcome
    code: str = ""
    """The digest of the code that tried it; empty where that was not kept yet."""


class Tuning(Record):
    """How the settings of a system were chosen."""

    budget: int
    """Settings it might try."""
    trials: tuple[Outcome, ...]
    chosen: int
    """The number of the best."""


class Result(Record):
    """One trained system, asked the test questions."""

    kind: Literal["recguru-result"] = "recguru-result"
    format_number: Literal[1] = 1
    facts: Facts
    title: str
    ours: bool
    minutes: float
    """Minutes of training; of the last part alone where it was interrupted."""
    resumed: bool
    """Whether the training was interrupted, and `minutes` are too few."""
    peak_mib: float
    code: str
    """The digest of the code that trained it."""
    ranks: str
    """SHA-256 of the file of ranks."""
    domains: dict[str, dict[str, Any]]
    """By domain and slice: `users`, and the figures `full` and `sampled`; without `newcomers`
    where nobody was set apart."""
    tuning: Tuning | None
    alignment: Mapping[str, float] = {}
    """How far the domains' GURs are one, where the system has any."""

    @property
    def label(self) -> str:
        """Say which run it is."""
        return f"{self.facts.system} seed {self.facts.seed}"


@dataclass(frozen=True, slots=True)
class DomainRanks:
    """The ranks of one domain's questions, in the order that dataset and protocol fix."""

    warm: Ranks
    """(Q,)."""
    shared: Flags
    """(Q,)."""
    short: Flags
    """(Q,)."""
    cold: Ranks
    """(C,)."""
    newcomers: Flags
    """Which of the cold questions are newcomers', (C,)."""

    @classmethod
    def of(cls, asked: Questions, warm: Ranks, cold: Ranks, newcomers: Flags) -> "DomainRanks":
        """Put the ranks of a domain's questions and cold questions together."""
        return cls(warm, asked.shared, asked.short, cold, newcomers)

    def full(self, part: str) -> RankArray:
        """Return the full ranks of a slice's users."""
        if part == "cold":
            return self.cold.full
        if part == "newcomers":
            return self.cold.full[self.newcomers]
        ranks = self.warm.full
        return ranks if part == "all" else ranks[self.shared if part == "shared" else self.short]


RunRanks = Mapping[str, DomainRanks]
"""By domain."""

Kept = TypeVar("Kept", Result, Trial)


def library_versions() -> dict[str, str]:
    """Name the versions that figures may depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def code_digest() -> str:
    """Return the digest of the code that learns, of all source files of the package."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def result_path(folder: Path, system: str, seed: int) -> Path:
    """Say where the result of a run lies."""
    return folder / RESULTS / f"{system}-{seed}.json"


def trial_path(folder: Path, system: str, number: int) -> Path:
    """Say where a trial lies."""
    return folder / TRIALS / f"{system}-{number:03d}.json"


def ranks_path(result: Path) -> Path:
    """Say where the ranks of a result lie."""
    return result.with_suffix(".ranks.npz")


def write_record(path: Path, record: Result | Trial) -> None:
    """Write a result or a trial."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, canonical_json(record.model_dump(mode="json")))


def read_record(path: Path, kind: type[Kept]) -> Kept | None:
    """Read a result or a trial, or nothing where there is none.

    Raises:
        BadArtifactError: If it is damaged or of another format.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadArtifactError(
            f"{path} cannot be read: {key} {first['msg']}; remove it to run it again"
        ) from None


def write_ranks(result: Path, ranks: RunRanks) -> str:
    """Write the ranks of a result; return the SHA-256 of their file."""
    arrays: dict[str, NDArray[Any]] = {}
    for domain, found in ranks.items():
        for name, part in (("warm", found.warm), ("cold", found.cold)):
            arrays[f"{domain}/{name}/full"] = _small(part.full)
            arrays[f"{domain}/{name}/sampled"] = _small(part.sampled)
        arrays[f"{domain}/shared"], arrays[f"{domain}/short"] = found.shared, found.short
        arrays[f"{domain}/newcomers"] = found.newcomers
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    path = ranks_path(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_ranks(path: Path, result: Result) -> RunRanks | None:
    """Read the ranks of the result at `path`, or nothing where their file is not there.

    Raises:
        BadArtifactError: If it is damaged.
    """
    place = ranks_path(path)
    if not place.exists():
        return None
    content = place.read_bytes()
    if hashlib.sha256(content).hexdigest() != result.ranks:
        raise BadArtifactError(f"{place} is damaged: its SHA-256 is not the one in {path.name}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {domain: _domain_ranks(arrays, domain) for domain in result.domains}
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadArtifactError(f"{place} cannot be read: {error}") from None


def _domain_ranks(arrays: Mapping[str, NDArray[Any]], domain: str) -> DomainRanks:
    def ranks(name: str) -> Ranks:
        full, sampled = (arrays[f"{domain}/{name}/{ranking}"] for ranking in ("full", "sampled"))
        return Ranks(full.astype(np.int64), sampled.astype(np.int64))

    warm, cold = ranks("warm"), ranks("cold")
    nobody = np.zeros(len(cold.full), np.bool_)
    newcomers = arrays.get(f"{domain}/newcomers", nobody)
    return DomainRanks(warm, arrays[f"{domain}/shared"], arrays[f"{domain}/short"], cold, newcomers)


def _small(ranks: RankArray) -> NDArray[np.unsignedinteger[Any]]:
    """Keep ranks in the smallest type that holds them."""
    return ranks.astype(np.min_scalar_type(int(ranks.max(initial=0))))
