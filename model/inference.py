"""A trained bundle at work: histories go in, GURs and preference vectors come out.

Shapes: B users, T steps, M domains, D width, V items of a domain.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from model.bundle import Bundle, Floats
from model.data.batches import pad_lists
from model.data.vocabulary import Rows
from model.device import resolve_device
from model.errors import BadArtifactError, NotFoundError
from model.evaluation.protocol import Users
from model.files import MANIFEST
from model.networks.autoencoder import module_key
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks
from model.scoring import exact_scores

_NOTHING: Rows = np.empty(0, np.int32)


class Basis(enum.Enum):
    """What an answer rests on."""

    PERSONALIZED = "personalized"
    """The history in the target domain, and in the other where there is one."""
    CROSS_DOMAIN = "cross-domain"
    """The history in another domain alone."""
    POPULARITY = "popularity"
    """Nothing that is known of the user."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the networks make of a batch of users, for one target domain."""

    gurs: Floats
    """(B, D): of the target domain's history, else of another's; zeros where nothing is known."""
    preferences: Floats
    """(B, D): the inner product with an item's embedding is its score; zeros likewise."""
    bases: list[Basis]


class Inference:
    """The networks of a bundle, ready to encode users. Not safe for use by two threads at once."""

    def __init__(
        self,
        networks: ServingNetworks,
        domains: Sequence[str],
        settings: NetworkSettings,
        device: torch.device,
    ) -> None:
        self.domains = tuple(domains)
        self.width = settings.width
        self.max_history = settings.max_history
        self._recent = settings.recent
        self.reads_others = settings.memory in {"other", "cold", "both"}
        """Whether histories in other domains than the target count."""
        self._only_cold = settings.memory == "cold"
        self._networks = networks
        self._device = device

    @classmethod
    def load(cls, bundle: Bundle, *, device: str = "auto") -> Self:
        """Rebuild the networks of a bundle.

        Args:
            bundle: An opened bundle.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            BadArtifactError: If the bundle's network settings are none of this version's, or the
                weights do not fit them.
            UnavailableDeviceError: If the device is not there.
        """
        place = resolve_device(device)
        settings = _settings_of(bundle)
        items = {domain.name: len(domain.vocabulary) for domain in bundle.domains}
        state = {name: torch.from_numpy(array) for name, array in bundle.weights().items()}
        if not settings.neighbours:
            for domain in bundle.domains:
                state[item_table_name(domain.name)] = torch.from_numpy(domain.item_table)
        with torch.device("meta"):
            networks = ServingNetworks(items, settings)
        try:
            networks.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BadArtifactError(f"{bundle.folder}: the weights do not fit: {reason}") from None
        networks.to(place).requires_grad_(requires_grad=False).eval()
        return cls(networks, list(items), settings, place)

    def encode(self, domain: str, histories: Sequence[Mapping[str, Rows]]) -> Encoded:
        """Encode a batch of users for one target domain, as one pass through the networks.

        Args:
            domain: The target domain.
            histories: Per user the known rows of each domain, oldest first, no padding; domains
                without a known item may be left out.

        Raises:
            NotFoundError: If the bundle has no such domain.
        """
        if domain not in self.domains:
            known = ", ".join(self.domains)
            raise NotFoundError(f"domain {domain!r} is unknown; the model has {known}")
        others = [name for name in self.domains if name != domain]
        order = [domain, *(others if self.reads_others else [])]
        lists = [[self._read(history, name, domain) for history in histories] for name in order]
        with torch.inference_mode():
            gurs, there = self._gurs(order, lists)
            preferences = self._preferences(domain, lists[0], gurs, there)
        bases = [_basis(known) for known in there]
        first = there.argmax(axis=1)  # the target domain where it is there, else the first that is
        anything = there.any(axis=1, keepdims=True)
        chosen = gurs.cpu().numpy()[np.arange(len(first)), first]
        return Encoded(
            np.where(anything, chosen, 0).astype(np.float32),
            np.where(anything, preferences.cpu().numpy(), 0).astype(np.float32),
            bases,
        )

    def _read(self, history: Mapping[str, Rows], name: str, target: str) -> Rows:
        """Take the rows of a domain; nothing where the recommender will not read their GUR."""
        if self._only_cold and name != target and len(history.get(target, _NOTHING)):
            return _NOTHING
        return history.get(name, _NOTHING)

    def _gurs(
        self, order: Sequence[str], lists: Sequence[Sequence[Rows]]
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        users = len(lists[0])
        gurs = torch.zeros(users, len(order), self.width, device=self._device)  # (B, M, D)
        there = np.array([[len(rows) > 0 for rows in column] for column in lists], np.bool_).T
        for place, (name, column) in enumerate(zip(order, lists, strict=True)):
            known = np.flatnonzero(there[:, place]).tolist()
            if known:
                rows = pad_lists([column[user] for user in known], longest=self.max_history)
                encoded = self._networks.gur_encoder(name, self._tensor(rows))
                gurs[known, place] = encoded
        return gurs, there

    def _preferences(
        self, domain: str, own: Sequence[Rows], gurs: Tensor, there: NDArray[np.bool_]
    ) -> Tensor:
        rows = self._tensor(pad_lists(own, longest=self._recent))
        shown = show_gurs(torch.from_numpy(there).to(self._device), steps=rows.shape[1] + 1)
        preferences: Tensor = self._networks.recommender(domain)(rows, gurs, shown)[:, -1]
        return preferences

    def _tensor(self, rows: Rows) -> Tensor:
        return torch.from_numpy(rows).to(self._device, torch.int64)


class BundleScorer:
    """Scores every item of a domain in process, by popularity where nothing is known of a user."""

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        self._bundle = bundle
        self._inference = Inference.load(bundle, device=device)

    def scores(
        self, domain: str, histories: Sequence[Mapping[str, Rows]], users: Users | None = None
    ) -> Floats:
        """Score all items for a batch of users -> (B, V + 1); column 0 is padding."""
        tables = self._bundle.domain(domain)
        encoded = self._inference.encode(domain, histories)
        scores = exact_scores(tables.item_table, encoded.preferences)
        unknown = [basis is Basis.POPULARITY for basis in encoded.bases]
        scores[unknown] = tables.popularity
        return scores


def item_table_name(domain: str) -> str:
    """Name the weight by which a domain's items are read.

    Where they are scored by the same vectors, a bundle keeps it as the domain's `item_table`.
    """
    return f"recommenders.{module_key(domain)}.embedding.items.weight"


def show_gurs(there: Tensor, *, steps: int) -> Tensor:
    """Say which GURs each step may read when a user is served.

    The target domain's own GUR is made from the whole history, so only the last step reads it, as
    in training, where a step never reads a GUR that has seen what comes after it. Others are
    always shown.

    Args:
        there: Which GURs exist, the target domain's first, (B, M), bool.
        steps: Steps of the recommender, T + 1.

    Returns:
        (B, T + 1, M), bool.
    """
    shown = there.unsqueeze(1).repeat(1, steps, 1)
    shown[:, :-1, 0] = False
    return shown


def _settings_of(bundle: Bundle) -> NetworkSettings:
    try:
        return NetworkSettings.model_validate(dict(bundle.network))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["network", *(str(part) for part in first["loc"])])
        raise BadArtifactError(f"{bundle.folder / MANIFEST}: {key}: {first['msg']}") from None


def _basis(there: NDArray[np.bool_]) -> Basis:
    if there[0]:
        return Basis.PERSONALIZED
    return Basis.CROSS_DOMAIN if there.any() else Basis.POPULARITY
