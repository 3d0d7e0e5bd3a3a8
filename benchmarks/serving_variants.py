"""Whether another way to compute would answer faster than what is served, and the same.

    python -m benchmarks.serving_variants --data DATASET [--passes 1 2 4 8 16 64] [--pause-ms 5]

The engine answers the same users in passes of so many on one thread: as it is served, with all
users of a pass padded to the longest history, with groups of like length always apart, with its
forward pass in bfloat16, and with its recommender compiled. Each has its turn in every round;
printed are medians of users/s and of milliseconds a pass, the ratio to what is served, the share of
users whose items are the same, and how long all of them took the first time, when what is compiled
is compiled. With a pause before each pass, which is not counted, caches are as cold as between
calls that come now and then.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch

from benchmarks.serving_release import Catalogue, K, of_dataset, release_of
from indexer.publish import latest
from server.engine import Engine
from server.messages import Choice, Recommendation, RecommendQuestion

Variant = tuple[Engine, Callable[[], AbstractContextManager[object]]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--passes", type=int, nargs="+", default=[64], help="users of a pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="before each pass")
    options = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = of_dataset(options.data)
    asked = questions(catalogue, options.users)
    print(f"users/s, ms a pass, ratio, users with the same {K} items, first time")
    with tempfile.TemporaryDirectory() as folder:
        found = variants(latest(release_of(catalogue, Path(folder))))
        for users in options.passes:
            print(f"passes of {users}")
            measure(found, asked, users, options)
    return 0


def measure(
    found: Mapping[str, Variant],
    asked: Sequence[RecommendQuestion],
    users: int,
    options: argparse.Namespace,
) -> None:
    """Time every variant in turns, and print a line for each."""
    items, first_s = {}, {}
    for name, variant in found.items():
        items[name], first_s[name] = answered(variant, asked, users)
    rates = defaultdict(list)
    for _ in range(options.rounds):
        for name, variant in found.items():
            _, taken_s = answered(variant, asked, users, pause_s=options.pause_ms / 1000)
            rates[name].append(len(asked) / taken_s)
    served, *_ = found
    before = statistics.median(rates[served])
    for name in found:
        same = sum(one == other for one, other in zip(items[name], items[served], strict=True))
        rate = statistics.median(rates[name])
        figures = f"{rate:8,.0f} {1000 * users / rate:8.2f} {rate / before:6.2f}"
        print(f"  {name:<10} {figures} {same / len(asked):8.1%} {first_s[name]:8.1f} s")


def questions(catalogue: Catalogue, users: int) -> list[RecommendQuestion]:
    """Write what is asked."""
    return [
        RecommendQuestion(domain=catalogue.domain, histories=history, choice=Choice(k=K))
        for history in catalogue.histories[:users]
    ]


def variants(folder: Path) -> dict[str, Variant]:
    """Load an engine for each way to compute, the one that is served first."""
    load = partial(Engine.load, folder, device="cpu")
    compiled = load()
    for recommender in compiled._inference._networks.recommenders.values():  # noqa: SLF001  # no other way in
        recommender.compile(dynamic=True)
    padded, apart = load(), load()
    padded._inference.pass_steps = sys.maxsize  # noqa: SLF001  # likewise
    apart._inference.pass_steps = 0  # noqa: SLF001  # likewise
    return {
        "served": (load(), nullcontext),
        "padded": (padded, nullcontext),
        "apart": (apart, nullcontext),
        "bfloat16": (load(), partial(torch.autocast, "cpu", dtype=torch.bfloat16)),
        "compiled": (compiled, nullcontext),
    }


def answered(
    variant: Variant, asked: Sequence[RecommendQuestion], users: int, *, pause_s: float = 0.0
) -> tuple[list[list[str]], float]:
    """Answer every question, so many in a pass -> the items of each, seconds that passes took."""
    engine, context = variant
    items: list[list[str]] = []
    taken_s = 0.0
    with context():
        for first in range(0, len(asked), users):
            time.sleep(pause_s)
            begun_s = time.perf_counter()
            outcomes = engine.recommend(asked[first : first + users])
            taken_s += time.perf_counter() - begun_s
            for outcome in outcomes:
                if not isinstance(outcome, Recommendation):
                    raise outcome
                items.append(list(outcome.ranking.item_ids))
    return items, taken_s


if __name__ == "__main__":
    sys.exit(main())
