"""Bitmaps against Python's own sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitmaps import Bitmap, bytes_of, is_sound, smaller_of_both
from tests.indexer.index_making import rows_of

Drawn = tuple[int, set[int], set[int]]


@st.composite
def drawn_sets(draw: st.DrawFn) -> Drawn:
    """Draw a number of items and two sets of their rows."""
    items = draw(st.integers(1, 70))
    rows = st.sets(st.integers(1, items))
    return items, draw(rows), draw(rows)


@given(drawn_sets())
def test_bitmaps_do_what_sets_do(drawn: Drawn) -> None:
    items, one, other = drawn
    every = set(range(1, items + 1))
    first, second = (Bitmap.of(rows_of(*rows), items) for rows in (one, other))

    assert len(first.packed) == bytes_of(items) == -(-(items + 1) // 8)
    assert first.rows().tolist() == sorted(one)
    assert first.rows().dtype == np.int32
    assert len(first) == len(one)
    assert (first & second).rows().tolist() == sorted(one & other)
    assert (~first).rows().tolist() == sorted(every - one)
    assert first.without(rows_of(0, *other, *other)).rows().tolist() == sorted(one - other)
    assert first.rows().tolist() == sorted(one)
    parts = [first.packed, second.packed]
    assert Bitmap.union(parts, items).rows().tolist() == sorted(one | other)
    asked = range(items + 1)
    assert first.holds(rows_of(*asked)).tolist() == [row in one for row in asked]
    assert is_sound((~first).packed, items)


@given(drawn_sets())
def test_the_bits_for_faiss_are_those_of_positions_which_are_one_less_than_rows(
    drawn: Drawn,
) -> None:
    items, rows, _ = drawn

    bits = np.unpackbits(Bitmap.of(rows_of(*rows), items).by_position(), bitorder="little")

    assert np.flatnonzero(bits).tolist() == [row - 1 for row in sorted(rows)]


@given(drawn_sets())
def test_a_bit_of_padding_or_beyond_the_last_item_is_noticed(drawn: Drawn) -> None:
    items, rows, _ = drawn
    bits = np.unpackbits(Bitmap.of(rows_of(*rows), items).packed, bitorder="little")
    for place in (0, *range(items + 1, len(bits))):
        wrong = bits.copy()
        wrong[place] = 1
        packed = np.packbits(wrong, bitorder="little")
        assert not is_sound(packed, items)
        assert not is_sound(np.stack([np.zeros_like(packed), packed]), items)


def test_a_set_is_kept_in_whichever_form_is_smaller() -> None:
    items = 3200
    few, many = (np.arange(1, count + 1, dtype=np.int32) for count in (100, 101))

    assert smaller_of_both(few, items) is few
    kept = smaller_of_both(many, items)

    assert isinstance(kept, Bitmap)
    assert kept.rows().tolist() == many.tolist()
    assert kept.packed.nbytes < many.nbytes
