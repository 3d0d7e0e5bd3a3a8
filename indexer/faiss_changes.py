"""Changes to indexes that FAISS has built: entries go, move and come. Part of the door to FAISS.

Positions count from 0. Shapes: V entries before, N added, C columns of an index.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.faiss_api import ALL_THREADS, FaissIndex, using_threads
from indexer.faiss_build import add_to_lists
from model.arrays import Floats

_faiss: Any = faiss  # its types know only a part of it

Positions = NDArray[np.int64]


def centres_of(index: FaissIndex) -> Floats:
    """Give the centres (L, C) of an index that has lists."""
    listed: Any = index
    centres: Floats = listed.quantizer.reconstruct_n(0, listed.nlist)
    return centres


def change_lists(
    index: FaissIndex,
    moved: Positions,
    vectors: Floats,
    positions: Positions,
    lists: Positions | None,
) -> None:
    """Change the entries of an index that has lists and lies in memory.

    Args:
        index: The index, which holds the positions 0..V-1.
        moved: The position that each has from now on, (V,); -1 for those removed.
        vectors: What is added, (N, C).
        positions: The positions that these get, (N,).
        lists: The lists that these go into, (N,); None to let the index find them.
    """
    changed: Any = index
    gone = np.packbits(moved < 0, bitorder="little")
    with using_threads(ALL_THREADS):
        changed.remove_ids(_faiss.IDSelectorBitmap(gone))
        kept = _faiss.downcast_InvertedLists(changed.invlists)
        for each in range(kept.nlist):
            if size := kept.list_size(each):
                ids = faiss.rev_swig_ptr(kept.get_ids(each), size)  # a view, not a copy
                ids[:] = moved[ids]
        if isinstance(kept, _faiss.BlockInvertedLists):
            _clear_ends(kept)
        if len(positions):
            if lists is None:
                changed.add_with_ids(np.ascontiguousarray(vectors), positions)
            else:
                add_to_lists(changed, vectors, positions, lists)


def _clear_ends(lists: Any) -> None:  # noqa: ANN401  # see _faiss
    """Zero the codes that lie in the last block of a list behind its last entry.

    FAISS leaves there what was removed, and joins the codes of what is added with it by an or.
    """
    nothing = np.zeros(lists.packer.code_size, np.uint8)
    for each in range(lists.nlist):
        size, together = lists.list_size(each), lists.n_per_block
        blocks = -(-size // together)
        if size < blocks * together:
            codes = faiss.rev_swig_ptr(lists.get_codes(each), blocks * lists.block_size)
            for place in range(size, blocks * together):
                lists.packer.pack_1(nothing, place, codes.reshape(blocks, -1))


def change_links(
    index: FaissIndex, order: Positions, vectors: Floats, *, effort: int, threads: int
) -> None:
    """Add entries to an index that has links and lies in memory, and put all into another order.

    Args:
        index: The index of V entries.
        order: For each position from now on the entry that takes it, (V + N,): its position before,
            or V + n for the n-th that is added.
        vectors: What is added, (N, C).
        effort: Entries kept in view while links are chosen.
        threads: That link.
    """
    changed: Any = index
    changed.hnsw.efConstruction = effort
    with using_threads(threads):
        if len(vectors):
            changed.add(np.ascontiguousarray(vectors))
        changed.permute_entries(order)
