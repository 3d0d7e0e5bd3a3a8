"""The whole way in one go, by the commands that anyone would type: from logs to recommendations.

    python -m benchmarks.demo [--out demo] [--data FOLDER]

Without `--data` the logs are simulated; with it they are the two `<domain>.sequences.tsv` in that
folder, and `<domain>.items.tsv` for titles. Everything lands in the folder `--out`, which a later
run empties first; a folder that the demo did not make is left alone. Each command is shown with
the time it took; the first that fails ends the demo with exit code 1.
"""

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.histories import known_histories
from model.console import fail
from model.data.dataset import Dataset, DomainData
from model.errors import BadDataError, RecGuruError

MARKER = ".recguru-demo"
"""Lies in every folder the demo made: only those may be emptied."""

_SIZES = ("--users", "1000", "--users", "800", "--items", "400", "--items", "300")
_SETTINGS = Path(__file__).with_suffix(".toml")
_COMMAND = (sys.executable, "-m", "recguru_cli")
_SEQUENCES = ".sequences.tsv"
_DOMAINS = 2
_READY_S = 60
_STOP_S = 10
_LEAST_KNOWN = 5
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Person:
    """Someone to recommend items to."""

    about: str
    histories: Sequence[str]
    """The flags of `recguru recommend` that say what is known."""


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for all it makes")
    parser.add_argument("--data", type=Path, help="folder with the logs of two domains")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    try:
        run(arguments.out, arguments.data)
    except RecGuruError as error:
        fail(str(error))
        return 1
    say(f"\nall done in {time.monotonic() - began_s:.0f} s; everything is in {arguments.out}")
    return 0


def run(out: Path, data: Path | None) -> None:
    """Go the whole way.

    Args:
        out: Folder for all that is made.
        data: Folder with the logs; None simulates some.

    Raises:
        RecGuruError: If a command fails, or there is nothing to work with.
    """
    if data is not None:
        log_options(data)  # before anything of an earlier demo goes
        if data.resolve().is_relative_to(out.resolve()):
            raise BadDataError(f"{data} is in {out}, which is emptied first; choose another --out")
    claim(out)
    logs, dataset = data or out / "logs", out / "dataset"
    quick: tuple[object, ...] = ()
    if data is None:
        command("data", "simulate", *_SIZES, "--seed", "1", "--out", logs)
        quick = ("--config", _SETTINGS)
    command("data", "prepare", *log_options(logs), "--format", "sequences", "--out", dataset)
    command("train", "--data", dataset, "--out", out / "run", "--seed", "1", *quick)
    command("indexer", "build", "--bundle", out / "run/bundle", "--out", out / "releases")
    with serving(out) as address:
        served = ("--server", address, "--data", dataset)
        command("evaluate", *served, "--out", out / "report.json")
        target, people = choose(Dataset.read(dataset))
        for person in people:
            say(f"\n{person.about}:")
            command("recommend", *served, "--domain", target, *person.histories, "-k", _SHOWN)


def claim(out: Path) -> None:
    """Make the folder, or empty it if an earlier demo made it.

    Raises:
        RecGuruError: If it holds something else.
    """
    if out.exists() and not (out / MARKER).is_file() and (out.is_file() or any(out.iterdir())):
        raise RecGuruError(f"{out} was not made by the demo; choose another --out or remove it")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


def log_options(folder: Path) -> list[str]:
    """Return the flags of `recguru data prepare` for the logs in a folder.

    Raises:
        BadDataError: If there are not the logs of two domains.
    """
    if not folder.is_dir():
        raise BadDataError(f"there is no folder {folder}")
    logs = sorted(folder.glob(f"*{_SEQUENCES}"))
    if len(logs) != _DOMAINS:
        raise BadDataError(f"{folder} holds {len(logs)} files *{_SEQUENCES}, not {_DOMAINS}")
    names = {log.name.removesuffix(_SEQUENCES): log for log in logs}
    titles = {name: folder / f"{name}.items.tsv" for name in names}
    return [
        *(f"--domain={name}={log}" for name, log in names.items()),
        *(f"--titles={name}={items}" for name, items in titles.items() if items.exists()),
    ]


def choose(dataset: Dataset) -> tuple[str, list[Person]]:
    """Choose a target domain and three people: known in both domains, in it alone, and not in it.

    Where every user is shared, a shared one is shown by a part of what is known.

    Raises:
        BadDataError: If no user is known in both domains.
    """
    target, other = dataset.domains
    both = [
        target.users[int(user)]
        for user, partner in dataset.shared
        if min(target.sequences.lengths[user], other.sequences.lengths[partner]) >= _LEAST_KNOWN
    ]
    if not both:
        raise BadDataError(f"no user is known by {_LEAST_KNOWN} items in each of both domains")
    people = [
        Person(f"a user known in {target.name} and in {other.name}", ("--user", both[0])),
        _one_sided(dataset, target, both[-1], f"a user known in {target.name} alone"),
        _one_sided(dataset, other, both[-1], f"a user without any history in {target.name}"),
    ]
    return target.name, people


def _one_sided(dataset: Dataset, domain: DomainData, instead: str, about: str) -> Person:
    column = [each.name for each in dataset.domains].index(domain.name)
    shared = set(dataset.shared[:, column].tolist())
    for user, length in enumerate(domain.sequences.lengths.tolist()):
        if length >= _LEAST_KNOWN and user not in shared:
            return Person(about, ("--user", domain.users[user]))
    known = known_histories(dataset, instead)[domain.name]
    return Person(about, ("--history", f"{domain.name}={','.join(known)}"))


def command(*arguments: object) -> None:
    """Run a `recguru` command to its end, its output where ours goes, and say how long it took.

    Raises:
        RecGuruError: If it fails.
    """
    spelled = [str(argument) for argument in arguments]
    line = shlex.join(["recguru", *spelled])
    say(f"\n$ {line}")
    began_s = time.monotonic()
    code = subprocess.run([*_COMMAND, *spelled], check=False).returncode
    if code:
        raise RecGuruError(f"`{line}` ended with exit code {code}; its output is above")
    say(f"({time.monotonic() - began_s:.1f} s)")


@contextmanager
def serving(out: Path) -> Iterator[str]:
    """Run `recguru serve` over the releases until the block is left; give its address.

    Raises:
        RecGuruError: If it does not start, or does not end well when told to.
    """
    port_file, log = out / "port", out / "server.log"
    arguments = ["serve", "--releases", str(out / "releases"), "--port", "0"]
    arguments += ["--port-file", str(port_file)]
    say(f"\n$ {shlex.join(['recguru', *arguments])} &")
    began_s = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen([*_COMMAND, *arguments], stdout=output, stderr=output)
    try:
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > began_s + _READY_S:
                raise RecGuruError(f"the server did not start: {_last_line(log)}")
            time.sleep(0.05)
        say(f"(answers after {time.monotonic() - began_s:.1f} s; its log is {log})")
        yield f"127.0.0.1:{int(port_file.read_text(encoding='utf-8'))}"
        say("\n$ kill -TERM %1")
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(_STOP_S)
        if code:
            raise RecGuruError(f"the server ended with exit code {code}: {_last_line(log)}")
        say(
            f"(the server drained and ended with exit code 0 after "
            f"{time.monotonic() - began_s:.1f} s)"
        )
    except subprocess.TimeoutExpired:
        raise RecGuruError(f"the server did not end within {_STOP_S} s; see {log}") from None
    finally:
        process.kill()
        process.wait()


def say(text: str) -> None:
    """Print at once, so that our lines and those of the commands keep their order."""
    print(text, flush=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    sys.exit(main())
