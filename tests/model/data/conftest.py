"""What the tests of data preparation share: files to read, and a whole preparation in one call."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from model.data.dataset import Dataset
from model.data.prepare import DomainInput, prepare
from model.data.prepare_settings import PrepareSettings
from model.data.sources.reading import Reader, Reading, Wanted

if TYPE_CHECKING:
    import polars as pl

Histories = dict[str, list[str]]


class Prepared:
    """A dataset in the words of the outside: ids instead of rows."""

    def __init__(self, folder: Path, report: Mapping[str, Any]) -> None:
        self.folder = folder
        self.report = report
        self.dataset = Dataset.read(folder)

    def histories(self, domain: str) -> Histories:
        """Map each user of a domain to its items, oldest first."""
        data = self.dataset.domain(domain)
        ids = ["", *data.vocabulary.ids]
        return {
            user: [ids[row] for row in data.sequences[place]]
            for place, user in enumerate(data.users)
        }

    def shared(self) -> list[str]:
        """List the shared users, by their id in the first domain."""
        first, second = self.dataset.domains
        users = [first.users[int(place)] for place in self.dataset.shared[:, 0]]
        assert users == [second.users[int(place)] for place in self.dataset.shared[:, 1]]
        return users

    def removed(self, domain: str) -> dict[str, int]:
        """Map each step to the interactions it removed."""
        steps = self.report["domains"][domain]["steps"]
        return {step["name"]: step["removed"]["interactions"] for step in steps}


class Prepare(Protocol):
    """Prepares the logs of the domains `first` and `second`."""

    def __call__(
        self, first: str | bytes | Path, second: str | bytes | Path, **options: object
    ) -> Prepared:
        """Take contents or paths of the logs; `name` is the file name contents get."""


@pytest.fixture
def prepare_two(tmp_path: Path) -> Prepare:
    """Return a function that prepares two logs and reads the dataset back."""
    runs = iter(range(1000))

    def call(first: str | bytes | Path, second: str | bytes | Path, **options: object) -> Prepared:
        folder = tmp_path / f"run{next(runs)}"
        name = str(options.pop("name", "log.txt"))
        inputs = []
        for domain, log in (("first", first), ("second", second)):
            path = log if isinstance(log, Path) else folder / domain / name
            if not isinstance(log, Path):
                path.parent.mkdir(parents=True)
                path.write_bytes(log.encode() if isinstance(log, str) else log)
            inputs.append(DomainInput(domain, path))
        out = folder / "dataset"
        settings = PrepareSettings.model_validate(options)
        return Prepared(out, prepare((inputs[0], inputs[1]), settings, out))

    return call


class Read(Protocol):
    """Reads a file's content with one of the readers."""

    def __call__(
        self, reader: Reader, content: str | bytes, wanted: Wanted = ..., *, name: str = ...
    ) -> tuple[list[tuple[Any, ...]], Reading]:
        """Return the rows the reader yields, and what it counted."""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads some content with a reader, to the end."""

    def call(
        reader: Reader,
        content: str | bytes,
        wanted: Wanted = Wanted(),  # noqa: B008  # frozen
        *,
        name: str = "log.txt",
    ) -> tuple[list[tuple[Any, ...]], Reading]:
        raw = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        reading = Reading(path, wanted)
        frames: Sequence[pl.DataFrame] = list(reader(reading))
        reading.finish()
        return [row for frame in frames for row in frame.rows()], reading

    return call


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes text files be read in blocks of so few bytes."""

    def shrink(size: int) -> None:
        monkeypatch.setattr("model.data.sources.text.BLOCK_BYTES", size)

    return shrink
