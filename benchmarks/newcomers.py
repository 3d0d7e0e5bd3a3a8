"""Cold starts of users who a training knew to be shared, and of those it took for two users each.

    OMP_NUM_THREADS=1 python -m benchmarks.newcomers --data DATASET --run RUN [--split validation]

The slice `cold` of every report hides a shared user's history in the target domain when it asks,
but training has seen both histories and, of most users, that they are one user's: it was asked to
predict the one from the other. Of `untied_share` of the shared users it has not: they are as new to
it as a user can be whose two histories are in the logs. Both domains together; the systems
beside RUN, a folder of `recguru train`, are fitted to data in which the same users are untied.
NDCG@10 in per cent, full ranking (sampled), and the standard error of the mean of each.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from model.arrays import Flags
from model.baselines.cooccurrence import CrossCooccurrence, CrossCooccurrenceSettings
from model.baselines.popularity import (
    LatestPopularity,
    LatestPopularitySettings,
    Popularity,
    PopularitySettings,
)
from model.bundle import Bundle
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.errors import RecGuruError
from model.evaluation.protocol import Scorer, Split, questions
from model.evaluation.ranking import Ranks, rank_in_process
from model.inference import BundleScorer
from model.metrics import RankArray, gains
from model.training.context import untied_places
from model.training.settings import TrainSettings

K = 10


def scorers(run: Path, parted: TrainingData) -> dict[str, Scorer]:
    """Give what answers, by name."""
    cross = CrossCooccurrence.fit(parted, CrossCooccurrenceSettings(), seed=0)
    return {
        "RUN": BundleScorer(Bundle.read(run / "bundle")),
        "co-occurrence, cross-domain": cross,
        "popularity": Popularity.fit(parted, PopularitySettings(), seed=0),
        "popularity of latest rows": LatestPopularity.fit(
            parted, LatestPopularitySettings(), seed=0
        ),
    }


def figure(ranks: Sequence[RankArray]) -> str:
    """Spell the mean gain and its standard error, in per cent."""
    found = 100 * gains(np.concatenate(ranks), K)
    return f"{found.mean():.2f} ± {found.std() / max(len(found), 1) ** 0.5:.2f}"


def line(answers: Sequence[tuple[Ranks, Flags]]) -> str:
    """Spell the figures of the users flagged, full and sampled, over all domains."""
    full = figure([ranks.full[members] for ranks, members in answers])
    sampled = figure([ranks.sampled[members] for ranks, members in answers])
    return f"{full} ({sampled})"


def main() -> None:
    """Ask, and print a line for each system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--run", type=Path, required=True, help="what `recguru train` wrote")
    parser.add_argument("--split", choices=get_args(Split), default="test", help="rows asked for")
    options = parser.parse_args()
    try:
        made = json.loads((options.run / "settings.json").read_bytes())
        dataset = Dataset.read(options.data)
    except (OSError, RecGuruError) as error:
        parser.error(str(error))
    if made["dataset"] != dataset.digest:
        parser.error(f"{options.run} was trained on another dataset than {options.data}")
    data = TrainingData.of(dataset)
    settings = TrainSettings.model_validate(made["settings"])
    untied = untied_places(len(data.shared), settings)
    if not len(untied):
        parser.error(f"{options.run} left no shared user untied")
    asked = [
        questions(dataset, domain.name, split=options.split, cold=True) for domain in data.domains
    ]
    flags = [np.isin(each.users, data.shared[untied, place]) for place, each in enumerate(asked)]
    print(f"{'':28}{'tied':>32}{'untied':>32}")
    print(
        f"{'questions':28}{sum(int((~f).sum()) for f in flags):32,}"
        f"{sum(int(f.sum()) for f in flags):32,}"
    )
    for name, scorer in scorers(options.run, data.with_untied(untied)).items():
        ranks = [rank_in_process(scorer, each) for each in asked]
        tied = line([(found, ~members) for found, members in zip(ranks, flags, strict=True)])
        new = line(list(zip(ranks, flags, strict=True)))
        print(f"{name:28}{tied:>32}{new:>32}", flush=True)


if __name__ == "__main__":
    main()
