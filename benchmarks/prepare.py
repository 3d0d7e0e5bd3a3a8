"""Interactions a second and peak memory of `recguru data prepare`.

    python -m benchmarks.prepare [--sizes 1000000 20000000] [--kinds csv parquet] [--repeat 3]

Each case makes two logs of half the size in a temporary folder (not counted), rows in random order,
runs the command in a process of its own, and prints the fastest of its runs: interactions a second
over the whole process and over what follows its start (the time the same command takes on two
logs of one interaction), its peak memory, and bytes of that for each interaction above 300 MB.
The goals are at least 500,000 interactions a second after the start and at most 120 bytes for each
interaction; the exit code is 1 where one is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

FIXED_BYTES = 300e6
LEAST_SPEED = 500_000
MOST_BYTES = 120

_USER_SHARE = 0.05  # users for each interaction of a domain
_ITEM_SHARE = 0.01
_SHARED_SHARE = 0.1  # of a domain's users
_YEAR_S = 365 * 86_400
_FIRST_S = 1_600_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of the command took."""

    seconds: float
    cpu_seconds: float
    """Of all threads; on a busy machine it tells more than the seconds that passed."""
    peak_bytes: int


def main() -> int:
    """Measure every size and kind of file; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 20_000_000])
    parser.add_argument(
        "--kinds", nargs="+", choices=["csv", "parquet"], default=["csv", "parquet"]
    )
    parser.add_argument("--core", type=int, default=0, help="passed on to the command")
    parser.add_argument("--repeat", type=int, default=1, help="runs of a case; the fastest counts")
    arguments = parser.parse_args()
    start = _fastest(2, "csv", 0, arguments.repeat)
    print(f"start: {start.seconds:.2f} s, {start.peak_bytes / 1e6:.0f} MB")
    print("interactions  file     seconds  CPU s   a second  after start  peak MB  bytes each")
    missed = False
    for size in arguments.sizes:
        for kind in arguments.kinds:
            figures = _fastest(size, kind, arguments.core, arguments.repeat)
            speed = size / (figures.seconds - start.seconds)
            each = max(0.0, figures.peak_bytes - FIXED_BYTES) / size
            missed |= speed < LEAST_SPEED or each > MOST_BYTES
            print(
                f"{size:12,}  {kind:7}  {figures.seconds:7.1f}  {figures.cpu_seconds:5.1f}"
                f"  {size / figures.seconds:9,.0f}  {speed:11,.0f}"
                f"  {figures.peak_bytes / 1e6:7,.0f}  {each:10.1f}",
                flush=True,
            )
    return int(missed)


def _fastest(size: int, kind: str, core: int, repeat: int) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, domain in enumerate(("first", "second")):
            log = _log(size // 2, number)
            path = folder / f"{domain}.{kind}"
            log.write_parquet(path) if kind == "parquet" else log.write_csv(path)
            del log
        runs = [_run(folder, run, kind, core) for run in range(repeat)]
    return min(runs, key=lambda figures: figures.seconds)


def _run(folder: Path, run: int, kind: str, core: int) -> Figures:
    command = [
        *(sys.executable, "-m", "recguru_cli", "data", "prepare", "--format", "table", "--json"),
        *(f"--domain={name}={folder / name}.{kind}" for name in ("first", "second")),
        *("--core", str(core), "--out", str(folder / f"dataset{run}")),
    ]
    start = time.perf_counter()
    with (folder / "messages").open("wb") as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit((folder / "messages").read_text())
    return Figures(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _log(interactions: int, number: int) -> pl.DataFrame:
    """Make one domain's log; users of both domains overlap in a tenth."""
    generator = np.random.default_rng([interactions, number])
    users = 1 + int(_USER_SHARE * interactions)
    items = 1 + int(_ITEM_SHARE * interactions)
    first_user = number * int(users * (1 - _SHARED_SHARE))
    numbers = pl.DataFrame(
        {
            "user": first_user + generator.integers(0, users, interactions),
            # The square makes few items popular and many rare.
            "item": (items * generator.random(interactions) ** 2).astype(np.int64),
            "time": _FIRST_S + generator.integers(0, _YEAR_S, interactions),
        }
    )
    return numbers.with_columns(
        pl.format("AUSER{}", pl.col("user").cast(pl.String).str.zfill(9)).alias("user"),
        pl.format("B{}{}", pl.lit(number), pl.col("item").cast(pl.String).str.zfill(8)).alias(
            "item"
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
