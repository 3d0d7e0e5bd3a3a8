"""A trained bundle at work: histories go in, GURs and preference vectors come out.

Shapes: B users, T steps, M domains, D width, V items of a domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from model.arrays import Flags, Floats, Places, Rows
from model.basis import Basis
from model.bundle import Bundle
from model.data.batches import alike, pad_lists
from model.device import torch_device
from model.errors import BadArtifactError, NotFoundError
from model.evaluation.protocol import Users
from model.files import MANIFEST
from model.networks.blocks import undrawn
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks
from model.scoring import exact_scores
from model.weight_names import item_table_name

if TYPE_CHECKING:
    from model.gur_cache import GurCache

_REASON_CHARACTERS = 500  # torch names every weight that does not fit

Known = Flags
"""Of each user and domain, the target first, whether something is so, (B, M) or (M,)."""

_NOTHING: Rows = np.empty(0, np.int32)
_PASS_STEPS = 64
"""What a forward pass costs by itself on a CPU, in steps computed: more would pad long passes for
nothing, less part short ones. `benchmarks.serving_variants` compares with both extremes."""

_TOGETHER = 512
"""Users whose vectors are held at once while they are computed."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the networks make of a batch of users, for one target domain."""

    gurs: Floats
    """(B, D): of the target domain's history, else of another's; zeros where nothing is known."""
    preferences: Floats
    """(B, D): the inner product with an item's embedding is its score; zeros likewise."""
    bases: list[Basis]


@dataclass(frozen=True, slots=True)
class Preferred:
    """What ranks the items of one domain for a batch of users."""

    preferences: Floats
    """(B, D), as in `Encoded`."""
    bases: list[Basis]


class Inference:
    """The networks of a bundle, ready to encode users. Not safe for use by two threads at once.

    Users of like length are computed together, whatever order they come in, and of each only the
    GURs and the steps that somebody reads.
    """

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
        self.reads_others = settings.reads_others
        """Whether histories in other domains than the target count."""
        self.gur_cache: GurCache | None = None
        """Where GURs are kept for users who ask again; None makes each anew."""
        self.pass_steps = _PASS_STEPS
        """What a group of users costs by itself, in steps of padding; see `alike`."""
        self._reads_own = settings.reads_own
        self._only_cold = settings.memory == "cold"
        self._bridged = settings.bridge_share > 0
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
        place = torch_device(device)
        settings = _settings_of(bundle)
        items = {domain.name: len(domain.vocabulary) for domain in bundle.domains}
        state = {name: torch.from_numpy(array) for name, array in bundle.weights().items()}
        if not settings.neighbours:
            for domain in bundle.domains:
                state[item_table_name(domain.name)] = torch.from_numpy(domain.item_table)
        with undrawn():
            networks = ServingNetworks(items, settings)
        try:
            networks.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = shorten(str(error), _REASON_CHARACTERS, placeholder=" …")
            raise BadArtifactError(f"{bundle.folder}: the weights do not fit: {reason}") from None
        networks.to(place).requires_grad_(requires_grad=False).eval()
        return cls(networks, list(items), settings, place)

    def encode(self, domain: str, histories: Sequence[Mapping[str, Rows]]) -> Encoded:
        """Encode a batch of users for one target domain.

        Args:
            domain: The target domain.
            histories: Per user the known rows of each domain, oldest first, no padding; domains
                without a known item may be left out.

        Raises:
            NotFoundError: If the bundle has no such domain.
        """
        order, lists, there = self._known(domain, histories)
        first = there.argmax(axis=1)  # the target domain where it is there, else the first that is
        read = self._read(there)
        wanted = read.copy()
        users = np.flatnonzero(there.any(axis=1))
        wanted[users, first[users]] = True
        gurs = self._gurs(order, lists, wanted)
        chosen = gurs[np.arange(len(first)), first].cpu().numpy()  # zeros where nothing is known
        preferences = self._preferences(domain, lists[0], gurs, read)
        self._blend_bridged(order, lists, there, preferences)
        return Encoded(chosen, _zeroed(preferences, there), [_basis(known) for known in there])

    def prefer(self, domain: str, histories: Sequence[Mapping[str, Rows]]) -> Preferred:
        """Give the preferences alone; see `encode`. GURs that no recommender reads are not made."""
        order, lists, there = self._known(domain, histories)
        read = self._read(there)
        gurs = self._gurs(order, lists, read)
        preferences = self._preferences(domain, lists[0], gurs, read)
        self._blend_bridged(order, lists, there, preferences)
        return Preferred(_zeroed(preferences, there), [_basis(known) for known in there])

    def prefer_all(self, domain: str, histories: Sequence[Mapping[str, Rows]]) -> Preferred:
        """Give the preferences of any number of users, some hundreds at a time; see `prefer`."""
        parts = [
            self.prefer(domain, histories[first : first + _TOGETHER])
            for first in range(0, len(histories), _TOGETHER)
        ]
        vectors = [np.empty((0, self.width), np.float32), *(part.preferences for part in parts)]
        bases = [basis for part in parts for basis in part.bases]
        return Preferred(np.concatenate(vectors), bases)

    def _known(
        self, domain: str, histories: Sequence[Mapping[str, Rows]]
    ) -> tuple[list[str], list[list[Rows]], Known]:
        """List the domains that count, the target first, what is known there, and whether it is."""
        if domain not in self.domains:
            known = ", ".join(self.domains)
            raise NotFoundError(f"domain {domain!r} is unknown; the model has {known}")
        others = [name for name in self.domains if name != domain]
        order = [domain, *(others if self.reads_others else [])]
        lists = [[history.get(name, _NOTHING) for history in histories] for name in order]
        there = np.array([[len(rows) > 0 for rows in column] for column in lists], np.bool_).T
        return order, lists, there

    def _read(self, there: Known) -> Known:
        """Mark the GURs that the recommender reads, (B, M)."""
        read = there.copy()
        if not self._reads_own:
            read[:, 0] = False
        if self._only_cold:
            read[there[:, 0]] = False
        return read

    def _gurs(self, order: Sequence[str], lists: Sequence[Sequence[Rows]], wanted: Known) -> Tensor:
        """Make the GURs wanted -> (B, M, D), zeros elsewhere."""
        gurs = torch.zeros(*wanted.shape, self.width, device=self._device)
        with torch.inference_mode():
            for place, (name, column) in enumerate(zip(order, lists, strict=True)):
                users = np.flatnonzero(wanted[:, place])
                users = self._recall(name, column, users, gurs[:, place])
                for group, rows in self._alike(column, users, self.max_history):
                    encoded = self._networks.gur_encoder(name, rows)
                    gurs[torch.from_numpy(group), place] = encoded
                    self._keep(name, column, group, encoded)
        return gurs

    def _recall(self, domain: str, lists: Sequence[Rows], users: Places, gurs: Tensor) -> Places:
        """Fill the GURs that are kept into (B, D) -> the users whose GURs are to be made."""
        if self.gur_cache is None or not len(users):
            return users
        found = self.gur_cache.find(domain, self._encoded_rows(lists, users))
        kept = np.fromiter(found, np.int64)
        if found:
            recalled = torch.from_numpy(np.stack(list(found.values())))
            gurs[torch.from_numpy(users[kept])] = recalled.to(self._device)
        return np.delete(users, kept)

    def _keep(self, domain: str, lists: Sequence[Rows], users: Places, gurs: Tensor) -> None:
        if self.gur_cache is not None:
            self.gur_cache.keep(domain, self._encoded_rows(lists, users), gurs.cpu().numpy())

    def _encoded_rows(self, lists: Sequence[Rows], users: Places) -> list[Rows]:
        """Cut histories to what the encoder reads of them."""
        return [lists[user][-self.max_history :] for user in users]

    def _preferences(self, domain: str, own: Sequence[Rows], gurs: Tensor, read: Known) -> Floats:
        preferences = torch.empty(len(own), self.width, device=self._device)
        recommender = self._networks.recommender(domain)
        with torch.inference_mode():
            for group, rows in self._alike(own, np.arange(len(own)), self._recent):
                members = torch.from_numpy(group)
                memory, there = gurs[members], torch.from_numpy(read[group]).to(self._device)
                if not read[group].any():  # then there is nothing to attend to
                    memory, there = memory[:, :0], there[:, :0]
                shown = show_gurs(there, steps=rows.shape[1] + 1)
                preferences[members] = recommender(rows, memory, shown, last=1)[:, -1]
        return preferences.cpu().numpy()

    def _blend_bridged(
        self,
        order: Sequence[str],
        lists: Sequence[Sequence[Rows]],
        there: Known,
        preferences: Floats,
    ) -> None:
        """Blend into preferences (B, D) of users new to the target what they prefer elsewhere."""
        if not self._bridged:
            return
        first = there.argmax(axis=1)  # the domain that answers
        for place, name in enumerate(order[1:], start=1):
            users = np.flatnonzero(first == place)
            if len(users):
                column = lists[place]
                elsewhere = self.prefer(
                    name, [{name: column[user]} for user in users.tolist()]
                ).preferences
                own, other = self._vectors(preferences[users]), self._vectors(elsewhere)
                with torch.inference_mode():
                    blended = self._networks.bridge(order[0]).blended(own, other)
                preferences[users] = blended.cpu().numpy()

    def _vectors(self, values: Floats) -> Tensor:
        return torch.from_numpy(values).to(self._device)

    def _alike(
        self, lists: Sequence[Rows], users: Places, longest: int
    ) -> Iterator[tuple[Places, Tensor]]:
        """Give users in groups of like length, and the last rows of each, padded."""
        if not len(users):
            return
        lengths = np.array([len(lists[user]) for user in users], np.int64)
        for group in alike(np.minimum(lengths, longest), pass_steps=self.pass_steps):
            members = users[group]
            rows = pad_lists([lists[user] for user in members], longest=longest)
            yield members, self._tensor(rows)

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
        preferred = self._inference.prefer(domain, histories)
        scores = exact_scores(tables.item_table, preferred.preferences)
        unknown = [basis is Basis.POPULARITY for basis in preferred.bases]
        scores[unknown] = tables.popularity
        return scores


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
    shown = there.unsqueeze(1).expand(-1, steps, -1).clone()
    shown[:, :-1, :1] = False
    return shown


def _settings_of(bundle: Bundle) -> NetworkSettings:
    try:
        return NetworkSettings.model_validate(dict(bundle.network))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["network", *(str(part) for part in first["loc"])])
        raise BadArtifactError(f"{bundle.folder / MANIFEST}: {key}: {first['msg']}") from None


def _zeroed(preferences: Floats, there: Known) -> Floats:
    preferences[~there.any(axis=1)] = 0
    return preferences


def _basis(known: Known) -> Basis:
    if known[0]:
        return Basis.PERSONALIZED
    return Basis.CROSS_DOMAIN if known.any() else Basis.POPULARITY
