"""What early stopping looks at: full-ranking NDCG@10 of the validation rows, never of a test row.

Shapes: Q questions, B users in a batch, V items.
"""

from collections.abc import Iterator

import numpy as np

from model.arrays import Places
from model.data.training_data import TrainingData
from model.errors import TrainingError
from model.evaluation.protocol import Scorer, Users
from model.metrics import ndcg, rank_of_target

_BATCH = 256


class Validation:
    """The validation questions of one domain: training rows of both in, the next row out."""

    def __init__(self, data: TrainingData, domain: str) -> None:
        self._data = data
        self._domain = next(each for each in data.domains if each.name == domain)
        self._other = data.other_than(self._domain)
        asked = np.flatnonzero(self._domain.validation)
        by_length = np.argsort(self._domain.training.lengths[asked], kind="stable")
        self._users = asked[by_length]  # users of like length share a batch: less padding

    def __len__(self) -> int:
        """Count the questions, Q."""
        return len(self._users)

    def ndcg_at_10(self, scorer: Scorer) -> float:
        """Rank all items for each question; return the mean NDCG@10 between 0 and 1, 0 for none.

        Raises:
            TrainingError: If a score is NaN: what was learned has diverged.
        """
        ranks = [self._ranks(scorer, users) for users in self._batches()]
        return ndcg(np.concatenate(ranks), 10) if ranks else 0.0

    def _batches(self) -> Iterator[Places]:
        for first in range(0, len(self._users), _BATCH):
            yield self._users[first : first + _BATCH]

    def _ranks(self, scorer: Scorer, users: Places) -> Places:
        own, other = self._domain, self._other
        histories = [self._data.history(own, int(user)) for user in users]
        who: Users = {own.name: users, other.name: own.other[users]}
        scores = np.array(scorer.scores(own.name, histories, who))  # (B, V + 1)
        lengths = [len(history[own.name]) for history in histories]
        seen = np.concatenate([history[own.name] for history in histories])
        scores[np.repeat(np.arange(len(users)), lengths), seen] = -np.inf
        try:
            return rank_of_target(scores, own.validation[users])
        except ValueError as error:
            raise TrainingError(
                f"domain {own.name!r}: {error} on validation rows; lower the learning rate"
            ) from None
