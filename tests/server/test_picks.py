"""Candidates, exclusions and filters of every size at once, against Python's own sets."""

from collections.abc import Sequence

import numpy as np
import pytest

from indexer.attributes import Attribute
from indexer.bitmaps import Bitmap, bytes_of, smaller_of_both
from indexer.search import DomainIndex, Query
from model.arrays import Rows
from model.bundle import DomainTables
from model.errors import NotFoundError
from server.config import RequestLimits
from server.messages import Choice, Filter
from server.picks import pick
from tests.indexer.index_making import clustered, faiss_engine, rows_of, tables_of

ITEMS = 60_000
COLOURS = ("blue", "green", "red")
"""Rows have these in turn, and the fourth of four none, but row 8, which has all three."""
SIZES = tuple(f"v{place}" for place in range(9))
"""Row r has size v<number of trailing zeros of r>, as far as there is one."""
SET = "every-third"


@pytest.fixture(scope="module")
def tables() -> DomainTables:
    return tables_of("items", clustered(ITEMS, 16, np.random.default_rng(1)))


def attribute(values: Sequence[str], members: Sequence[Rows]) -> Attribute:
    bits = np.zeros((len(values), bytes_of(ITEMS)), np.uint8)
    for place, rows in enumerate(members):
        bits[place] = Bitmap.of(rows, ITEMS).packed
    return Attribute(values, bits, ITEMS)


@pytest.fixture(scope="module")
def index(tables: DomainTables) -> DomainIndex:
    rows = np.arange(1, ITEMS + 1, dtype=np.int32)
    colours = [np.append(rows[rows % 4 == place], 8).astype(np.int32) for place in (1, 2, 3)]
    sizes = [rows[(rows & -rows) == 1 << place] for place in range(len(SIZES))]
    sets = {SET: smaller_of_both(rows[::3], ITEMS)}
    attributes = {"colour": attribute(COLOURS, colours), "size": attribute(SIZES, sizes)}
    return DomainIndex(tables, "flat", faiss_engine(tables), sets, attributes)


def passes(row: int, by: Filter) -> bool:
    """Say whether a row passes a filter."""
    if by.attribute == "colour":
        has = set(COLOURS) if row == 8 else set(COLOURS[row % 4 - 1 : row % 4] if row % 4 else ())
    else:
        zeros = (row & -row).bit_length() - 1
        has = {f"v{zeros}"} & set(SIZES)
    return bool(has & set(by.values)) != by.negate


FILTERS: dict[str, list[Filter]] = {
    "none": [],
    "half": [Filter(attribute="size", values=["v0", "v7"])],
    "narrow": [Filter(attribute="size", values=["v8"])],
    "all but few": [Filter(attribute="size", values=["v5", "v6", "v7", "nothing"], negate=True)],
    "no colour": [Filter(attribute="colour", values=COLOURS, negate=True)],
    "two attributes": [
        Filter(attribute="colour", values=["green", "blue"]),
        Filter(attribute="size", values=["v0"], negate=True),
    ],
    "one item": [Filter(attribute="colour", values=[colour]) for colour in COLOURS],
    "nothing": [Filter(attribute="colour", values=["mauve"])],
}


@pytest.mark.parametrize("listed", [None, SET, 200, 20_000, RequestLimits().max_candidates])
@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_what_may_be_answered_is_what_all_of_them_leave(
    index: DomainIndex, tables: DomainTables, filters: list[Filter], listed: str | int | None
) -> None:
    generator = np.random.default_rng(9)
    ids = list(tables.vocabulary.ids)
    candidates = None
    if isinstance(listed, int):
        candidates = [ids[place] for place in generator.permutation(ITEMS)[: listed - 2]]
        candidates += ["nobody", ids[7]]
    excluded = [ids[place] for place in generator.integers(0, ITEMS, 500)] + ["nobody"]
    choice = Choice(
        k=40,
        candidate_items=candidates,
        candidate_set=listed if isinstance(listed, str) else None,
        exclude_item_ids=excluded,
        filters=filters,
    )
    history = rows_of(*range(100, 900, 8))

    picked = pick(index, choice, history)

    among = set(range(1, ITEMS + 1, 3 if listed == SET else 1))
    if candidates is not None:
        among &= {int(row) for row in tables.vocabulary.rows(candidates)}
    among -= {*history.tolist(), *tables.vocabulary.rows(excluded).tolist()}
    allowed = np.array([r for r in sorted(among) if all(passes(r, by) for by in filters)], np.int32)
    assert picked.unknown_candidates == (0 if candidates is None else 1)
    vector = generator.standard_normal(16).astype(np.float32)
    query = Query(vector, choice.k, picked.candidates, picked.excluded, ranked=allowed[:3])
    assert query.allowed(ITEMS).tolist() == allowed.tolist()
    (found,) = index.search([query])
    wide = tables.item_table[allowed].astype(np.float64) @ vector.astype(np.float64)
    scores = wide.astype(np.float32)
    order = np.lexsort((allowed, -scores))
    assert found.rows.tolist() == allowed[order][:40].tolist()
    ranks = [int((scores >= score).sum()) for score in scores[:3]]
    assert found.ranks.tolist() == ranks


def test_candidates_of_nobody_stay_none_whatever_filters_say(index: DomainIndex) -> None:
    every = Filter(attribute="colour", values=["mauve"], negate=True)
    choice = Choice(k=1, candidate_items=["nobody"], filters=[every])

    picked = pick(index, choice, rows_of())

    assert picked.candidates is not None
    assert (len(picked.candidates), picked.unknown_candidates) == (0, 1)


def test_an_attribute_nobody_has_is_named_with_those_there_are(index: DomainIndex) -> None:
    choice = Choice(k=1, filters=[FILTERS["half"][0], Filter(attribute="x" * 99, values=["v0"])])

    with pytest.raises(NotFoundError) as refusal:
        pick(index, choice, rows_of())

    assert str(refusal.value) == (
        f"filters[1].attribute: '{'x' * 64}…' is unknown; domain 'items' has colour, size"
    )


def test_of_many_names_a_message_lists_no_more_than_a_status_has_room_for(
    tables: DomainTables,
) -> None:
    rows = np.array([1], np.int32)
    longest = {f"{place:04}".ljust(64, "x"): Bitmap.of(rows, ITEMS) for place in range(400)}
    index = DomainIndex(tables, "flat", faiss_engine(tables), longest, {})

    with pytest.raises(NotFoundError) as failure:
        pick(index, Choice(k=1, candidate_set="unknown"), rows_of())

    assert "0000xxx" in str(failure.value)
    assert str(failure.value).endswith(" and 380 more")
    assert len(str(failure.value)) < 2_000  # gRPC drops a status of more than 8 KiB at random
