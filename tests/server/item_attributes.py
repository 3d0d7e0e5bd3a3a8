"""What the items of releases under test have of which attribute, and who passes which filters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from recguru.v1 import recommender_pb2 as pb

from server.messages import Filter

GENRES = ("crime", "horror", "love")
RARE = "rare é"
DECADES = tuple(f"{decade}s" for decade in range(1950, 2020, 10))


def _genres(place: int) -> set[str]:
    """Give an item one genre or two, and one in seven none."""
    if place % 7 == 0:
        return set()
    return {GENRES[place % 3]} | ({RARE} if place % 5 == 0 else set())


def _decades(place: int) -> set[str]:
    return {DECADES[place % len(DECADES)]}


ATTRIBUTES: Mapping[str, Mapping[str, Callable[[int], set[str]]]] = {
    "books": {"genre": _genres},
    "films": {"genre": _genres, "decade": _decades},
    "songs": {"genre": _genres},
}
"""By domain and attribute, what the item at a place in the order of ids has."""

VALUES = (*GENRES, RARE, *DECADES)


AnyFilter = pb.Filter | Filter


def passing(domain: str, item_ids: Sequence[str], filters: Iterable[AnyFilter]) -> set[str]:
    """List which of all items of a domain pass filters by attributes that it has."""
    passed = set(item_ids)
    for each in filters:
        values_of, wanted = ATTRIBUTES[domain][each.attribute], set(each.values)
        having = {item for place, item in enumerate(item_ids) if values_of(place) & wanted}
        passed = passed - having if each.negate else passed & having
    return passed


def write_table(folder: Path, domain: str, item_ids: Sequence[str]) -> Path:
    """Write the attributes of a domain's items into a folder, as a table for `indexer build`."""
    names = ATTRIBUTES[domain]
    lines = ["\t".join(["item_id", *names])]
    for place, item in enumerate(item_ids):
        cells = ("|".join(sorted(values_of(place))) for values_of in names.values())
        lines.append("\t".join([item, *cells]))
    path = folder / f"{domain}.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
