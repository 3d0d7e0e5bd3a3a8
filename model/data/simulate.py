"""Interaction logs of two made-up domains whose truth is known.

    <domain>.sequences.tsv          user, items oldest first, their unix times (seconds)
    <domain>.items.tsv              item, title
    truth.json                      settings, the genres' names, how the next item is chosen
    truth_tastes.npy                (P, D) float32: row n is the taste of user number n
    truth_genre_centres.npy         (G, D) float32
    truth_<domain>_vectors.npy      (V, D) float32: row n is what item number n is like
    truth_<domain>_genres.npy       (V,) int64: row n is the genre of item number n

The number of a user or item is the one in its id. The logs are of the format `sequences`; `recguru
data prepare` makes a dataset of them. The same settings give the same bytes.

Shapes: P people, U users of a domain, G genres, V items of a domain, D width of a taste.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self, TextIO

import numpy as np
from pydantic import Field, model_validator

from model.arrays import Floats, Places
from model.data.simulate_behaviour import (
    NOTHING,
    SAME_GENRE,
    SEQUEL,
    SHORTEST,
    draw_lengths,
    draw_sequences,
    draw_tastes,
    draw_times,
)
from model.data.simulate_catalogue import Catalogue, genre_centres, make_catalogue
from model.data.simulate_titles import GENRES
from model.files import canonical_json, publishing
from model.settings import Settings

_FORMAT = 1
_WIDTH = 16
_USERS_TOGETHER = 20_000
_ITEMS_A_STEP = 10

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]
Users = Annotated[int, Field(ge=1, le=50_000_000)]
Items = Annotated[int, Field(ge=60, le=5_000_000)]


class SimulationSettings(Settings):
    """What to make."""

    domains: tuple[Name, Name] = ("books", "films")
    """Names of the two domains; they name the files and begin the item ids."""
    users: tuple[Users, Users] = (3000, 2500)
    """Users of each domain, shared ones included."""
    items: tuple[Items, Items] = (800, 600)
    """Items of each domain."""
    shared_rate: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of the users of the smaller domain who are known in both."""
    mean_length: Annotated[float, Field(ge=SHORTEST, le=200)] = 10.0
    """Mean number of items a user takes in a domain, before the few that come to nothing."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Where every draw comes from."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.domains[0] == self.domains[1]:
            raise ValueError(f"the domains must have two names, not {self.domains[0]!r} twice")
        if min(self.items) < _ITEMS_A_STEP * self.mean_length:
            raise ValueError(
                f"{min(self.items)} items are too few for sequences of {self.mean_length:g} on "
                f"average: there must be at least {_ITEMS_A_STEP} times as many"
            )
        return self


def simulate(settings: SimulationSettings, out: Path) -> None:
    """Write the logs of two domains and the truth behind them into a new folder.

    Args:
        settings: What to make.
        out: Where the folder is to appear, whole or not at all.

    Raises:
        RecGuruError: If something is at `out` already.
    """
    people = np.random.default_rng([settings.seed, 0])
    centres = genre_centres(_WIDTH, people)
    members = _members(settings, people)
    tastes = draw_tastes(sum(settings.users) - _shared(settings), centres, people)
    with publishing(out) as place:
        for number, (name, users) in enumerate(zip(settings.domains, members, strict=True)):
            generator = np.random.default_rng([settings.seed, 1 + number])
            catalogue = make_catalogue(name, settings.items[number], centres, generator)
            _write_items(place, catalogue)
            with (place / f"{name}.sequences.tsv").open("w", encoding="utf-8") as file:
                _write_sequences(file, catalogue, (users, tastes), settings.mean_length, generator)
        np.save(place / "truth_tastes.npy", tastes)
        np.save(place / "truth_genre_centres.npy", centres)
        (place / "truth.json").write_bytes(canonical_json(_truth(settings)))


def _shared(settings: SimulationSettings) -> int:
    return round(settings.shared_rate * min(settings.users))


def _members(settings: SimulationSettings, generator: np.random.Generator) -> tuple[Places, Places]:
    """Choose the numbers of each domain's users, ascending -> two (U,)."""
    first, second = settings.users
    order = generator.permutation(first + second - _shared(settings))
    return np.sort(order[:first]), np.sort(order[len(order) - second :])


def _truth(settings: SimulationSettings) -> dict[str, object]:
    return {
        "format": _FORMAT,
        "settings": settings.model_dump(mode="json"),
        "genres": [genre.name for genre in GENRES],
        "shared_users": _shared(settings),
        "chance_of_sequel": SEQUEL,
        "chance_of_same_genre": SAME_GENRE,
    }


def _write_items(folder: Path, catalogue: Catalogue) -> None:
    by_number = np.argsort(catalogue.numbers)
    np.save(folder / f"truth_{catalogue.name}_vectors.npy", catalogue.vectors[by_number])
    np.save(folder / f"truth_{catalogue.name}_genres.npy", catalogue.genres[by_number])
    ids = catalogue.item_ids()
    with (folder / f"{catalogue.name}.items.tsv").open("w", encoding="utf-8") as file:
        file.writelines(f"{ids[place]}\t{catalogue.titles[place]}\n" for place in by_number)


def _write_sequences(
    file: TextIO,
    catalogue: Catalogue,
    people: tuple[Places, Floats],
    mean_length: float,
    generator: np.random.Generator,
) -> None:
    """Write one line a user; `people`: numbers of the domain's users (U,), all tastes (P, D)."""
    users, tastes = people
    digits = len(str(len(tastes) - 1))
    ids = np.array(catalogue.item_ids(), object)
    for first in range(0, len(users), _USERS_TOGETHER):
        numbers = users[first : first + _USERS_TOGETHER]
        lengths = draw_lengths(len(numbers), mean_length, generator)
        places = draw_sequences(catalogue, tastes[numbers], lengths, generator)  # (U, T)
        times = draw_times(lengths, generator)
        real = places != NOTHING
        items, dates = ids[places[real]], times[real].astype(str)
        ends = np.append(0, np.cumsum(real.sum(axis=1))).tolist()
        spans = zip(numbers.tolist(), pairwise(ends), strict=True)
        file.writelines(
            f"user-{number:0{digits}d}\t{','.join(items[start:end])}\t{','.join(dates[start:end])}\n"
            for number, (start, end) in spans
        )
