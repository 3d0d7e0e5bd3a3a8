"""What early stopping looks at: full-ranking NDCG@10 of the validation rows, never of a test row.

Shapes: Q questions, B users in a batch, V items.
"""

import numpy as np

from model.bundle import Floats
from model.data.batches import Places
from model.data.vocabulary import Rows
from model.inference import Inference
from model.metrics import ndcg, rank_of_target
from model.scoring import exact_scores
from model.training.context import Context, TrainingDomain

_BATCH = 256


class Validation:
    """The validation questions of one domain: training rows of both in, the next row out."""

    def __init__(self, context: Context, domain: TrainingDomain) -> None:
        self._context = context
        self._domain = domain
        self._other = context.data.other_than(domain)
        asked = np.flatnonzero(domain.validation)
        by_length = np.argsort(domain.training.lengths[asked], kind="stable")
        self._users = asked[by_length]  # users of like length share a batch: less padding
        names = [each.name for each in context.data.domains]
        self._inference = Inference(
            context.networks.serving, names, context.settings.network, context.device
        )

    def ndcg_at_10(self) -> float:
        """Rank all items for each question; return the mean NDCG@10 between 0 and 1, 0 for none."""
        self._context.networks.eval()
        recommender = self._context.networks.serving.recommender(self._domain.name)
        table: Floats = recommender.embedding.items.weight.detach().cpu().numpy()
        ranks = [
            self._ranks(self._users[first : first + _BATCH], table)
            for first in range(0, len(self._users), _BATCH)
        ]
        return ndcg(np.concatenate(ranks), 10) if ranks else 0.0

    def _ranks(self, users: Places, table: Floats) -> Places:
        histories = [self._history(int(user)) for user in users]
        encoded = self._inference.encode(self._domain.name, histories)
        scores = exact_scores(table, encoded.preferences)  # (B, V + 1)
        lengths = [len(history[self._domain.name]) for history in histories]
        seen = np.concatenate([history[self._domain.name] for history in histories])
        scores[np.repeat(np.arange(len(users)), lengths), seen] = -np.inf
        return rank_of_target(scores, self._domain.validation[users])

    def _history(self, user: int) -> dict[str, Rows]:
        history = {self._domain.name: self._domain.training[user]}
        other = int(self._domain.other[user])
        if other >= 0:
            history[self._other.name] = self._other.training[other]
        return history
