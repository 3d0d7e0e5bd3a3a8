"""Whether bfloat16 or `torch.compile` would answer faster than what is served, and the same.

    python -m benchmarks.serving_variants --data DATASET [--users 1000] [--rounds 5]

The engine answers the same users in passes of 64 on one thread, as it is served, with its forward
pass in bfloat16, and with its recommender compiled. Each has its turn in every round; printed are
medians of users/s, the ratio to what is served, the share of users whose items are the same, and
how long all of them took the first time, when what is compiled is compiled.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch

from benchmarks.serving_release import Catalogue, K, of_dataset, release_of
from indexer.publish import latest
from server.engine import Engine
from server.messages import Choice, Recommendation, RecommendQuestion

PASS_USERS = 64

Variant = tuple[Engine, Callable[[], AbstractContextManager[object]]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    catalogue = of_dataset(options.data)
    asked = questions(catalogue, options.users)
    with tempfile.TemporaryDirectory() as folder:
        found = variants(latest(release_of(catalogue, Path(folder))))
        items, first_s = {}, {}
        for name, variant in found.items():
            begun_s = time.perf_counter()
            items[name] = answered(variant, asked)
            first_s[name] = time.perf_counter() - begun_s
        rates = defaultdict(list)
        for _ in range(options.rounds):
            for name, variant in found.items():
                begun_s = time.perf_counter()
                answered(variant, asked)
                rates[name].append(len(asked) / (time.perf_counter() - begun_s))
    served, *_ = found
    before = statistics.median(rates[served])
    print(f"users/s in passes of {PASS_USERS}, ratio, users with the same {K} items, first time")
    for name in found:
        same = sum(one == other for one, other in zip(items[name], items[served], strict=True))
        rate = statistics.median(rates[name])
        figures = f"{rate:8,.0f} {rate / before:6.2f} {same / len(asked):8.1%}"
        print(f"  {name:<10} {figures} {first_s[name]:8.1f} s")
    return 0


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
    return {
        "served": (load(), nullcontext),
        "bfloat16": (load(), partial(torch.autocast, "cpu", dtype=torch.bfloat16)),
        "compiled": (compiled, nullcontext),
    }


def answered(variant: Variant, asked: Sequence[RecommendQuestion]) -> list[list[str]]:
    """Answer every question -> the items of each."""
    engine, context = variant
    items: list[list[str]] = []
    with context():
        for first in range(0, len(asked), PASS_USERS):
            for outcome in engine.recommend(asked[first : first + PASS_USERS]):
                if not isinstance(outcome, Recommendation):
                    raise outcome
                items.append(list(outcome.ranking.item_ids))
    return items


if __name__ == "__main__":
    sys.exit(main())
