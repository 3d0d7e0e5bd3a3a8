"""AutoEM: the maps of MFEM between vectors that AutoRec has learned (section 4.1 of the paper).

AutoRec is trained first. The vectors of a user are its preference vectors, in each domain by the
history there. On shared users a map is learned for each direction, and a layer that makes one
vector of two, as in `model.baselines.mfem`; users of one domain have a mapped vector in the other.
Whoever asks is encoded by the history that comes with the question.

Shapes: B users, V items of a domain, D width; row 0 is padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from model.arrays import Floats
from model.baselines.factor_system import DomainFactors
from model.baselines.mfem import MappingSettings, merged_by_maps
from model.baselines.popularity import Popularity, PopularitySettings
from model.baselines.stored_networks import take_back, tensors_of
from model.baselines.system import Tensors
from model.baselines.tensors import of_domain
from model.baselines.transfer import Merge, MergeSettings
from model.basis import Basis
from model.bundle import Bundle
from model.comparison.recguru import train_bundle
from model.comparison.systems import Task
from model.data.training_data import TrainingData
from model.errors import BadSettingError
from model.evaluation.protocol import History, Users
from model.inference import Inference
from model.networks.blocks import undrawn_linear
from model.networks.perceptron import Perceptron
from model.training.settings import TrainSettings


class AutoEmSettings(TrainSettings):
    """How AutoRec is trained, then the maps between its vectors, and the layer that merges them."""

    mapping: MappingSettings = MappingSettings()
    """The maps, one for each direction."""

    merge: MergeSettings = MergeSettings(decay=0.0)
    """The layer that makes one vector of two. Preference vectors are far longer than those of
    BPRMF: what holds these down would outweigh all there is to learn from them."""


class Merging(nn.Module):
    """The layer that merges a user's vectors for a target domain, and the items that it ranks."""

    items: Tensor
    """(V + 1, D)."""
    bias: Tensor
    """What an item is worth to anyone, (V + 1,)."""

    def __init__(self, items: int, width: int, hidden: int) -> None:
        """Make one that has learned nothing, for V items; its weights hold anything until set."""
        super().__init__()
        self.layer = undrawn_linear(2 * width, width)
        self.outward = Perceptron((width, hidden, width))
        """From vectors of the target domain to those of the other, (B, D) -> (B, D)."""
        self.register_buffer("items", torch.zeros(items + 1, width))
        self.register_buffer("bias", torch.zeros(items + 1))

    def take(self, merge: Merge) -> None:
        """Become what a merge has learned, whose layer and outward map have the same names."""
        learned = {
            **merge.state_dict(),
            "items": merge.items.values,
            "bias": merge.bias.values[:, 0],
        }
        self.load_state_dict({name: learned[name] for name in self.state_dict()})

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Score all items by the vectors of users in the target and the other domain, (B, D) each.

        Returns:
            (B, V + 1).
        """
        scores: Tensor = self.layer(torch.cat([own, other], dim=1)) @ self.items.T + self.bias
        return scores


class AutoEm:
    """Scores by merged preference vectors; popularity where nothing is known."""

    def __init__(
        self,
        data: TrainingData,
        vectors: "PreferenceVectors",
        merging: Mapping[str, Merging],
    ) -> None:
        self._vectors = vectors
        self._merging = dict(merging)
        self._other = {each.name: data.other_than(each).name for each in data.domains}
        self._popularity = Popularity.fit(data, PopularitySettings(), seed=0)

    @torch.no_grad()
    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        """Score every item for each user -> (B, V + 1)."""
        merging = of_domain(self._merging, domain)
        abroad = self._other[domain]
        own, known = self._vectors.of(domain, histories)
        other, known_elsewhere = self._vectors.of(abroad, histories)
        here, there = known.unsqueeze(1), known_elsewhere.unsqueeze(1)
        scores = merging(
            torch.where(here, own, self._merging[abroad].outward(other)),
            torch.where(there, other, merging.outward(own)),
        )
        found: Floats = scores.numpy()
        nobody = ~(known | known_elsewhere).numpy()
        if nobody.any():
            found[nobody] = self._popularity.scores(domain, [{}])[0]
        return found

    def tensors(self) -> Tensors:
        """Return what was learned after AutoRec, by domain and name."""
        return tensors_of(self._merging)

    @classmethod
    def restore(
        cls, data: TrainingData, bundle: Bundle, settings: AutoEmSettings, tensors: Tensors
    ) -> Self:
        """Take back a system.

        Args:
            data: What it was fitted to.
            bundle: Of its AutoRec.
            settings: Those it was fitted with.
            tensors: What `tensors` returned.

        Raises:
            BadArtifactError: If the tensors do not fit the data and the settings.
        """
        merging = blank_merging(data, settings)
        for name, part in merging.items():
            take_back(part, name, tensors)
        return cls(data, PreferenceVectors(bundle, settings), merging)


def blank_merging(data: TrainingData, settings: AutoEmSettings) -> dict[str, Merging]:
    """Make what has learned nothing yet, by the name of the target domain."""
    width, hidden = settings.network.width, settings.mapping.hidden
    return {each.name: Merging(each.items, width, hidden) for each in data.domains}


class PreferenceVectors:
    """Preference vectors of a single-domain model, as long as its training divided cosines by."""

    def __init__(self, bundle: Bundle, settings: TrainSettings) -> None:
        self._inference = Inference.load(bundle, device="cpu")
        cosine = settings.network.scoring == "cosine"
        self._length = 1 / settings.temperature if cosine else 1.0

    def of(self, domain: str, histories: Sequence[History]) -> tuple[Tensor, Tensor]:
        """Encode histories of one domain -> vectors (B, D), and whether any row is known (B,)."""
        own = [{domain: history.get(domain, np.empty(0, np.int32))} for history in histories]
        preferred = self._inference.prefer_all(domain, own)
        known = [basis is Basis.PERSONALIZED for basis in preferred.bases]
        return self._length * torch.from_numpy(preferred.preferences), torch.tensor(known)

    def of_training(self, data: TrainingData) -> dict[str, Floats]:
        """Encode the training rows of all users -> (U, D) by domain."""
        found = {}
        for domain in data.domains:
            users = range(len(domain.training))
            histories = [{domain.name: domain.training[user]} for user in users]
            found[domain.name] = self.of(domain.name, histories)[0].numpy()
        return found


def fit(task: Task) -> AutoEm:
    """Train AutoRec into the task's work folder, then maps and merging layers.

    Raises:
        BadSettingError: If the settings are not those of AutoEM.
        TrainingError: If training stopped itself.
    """
    settings = task.settings
    if not isinstance(settings, AutoEmSettings):
        raise BadSettingError(f"{type(settings).__name__} are no settings of AutoEM")
    of_training = {name: getattr(settings, name) for name in TrainSettings.model_fields}
    bundle, trained = train_bundle(replace(task, settings=TrainSettings(**of_training)))
    vectors = PreferenceVectors(bundle, trained)
    users = vectors.of_training(task.data)
    found = {}
    for domain in task.data.domains:
        items = np.array(bundle.domain(domain.name).item_table)
        bias = np.zeros(len(items), np.float32)
        found[domain.name] = DomainFactors(users[domain.name], items, bias)
    merges = merged_by_maps(task.data, found, settings.mapping, settings.merge, seed=task.seed)
    merging = blank_merging(task.data, settings)
    for name, part in merging.items():
        part.take(merges[name])
    return AutoEm(task.data, vectors, merging)
