"""The GURs of histories that were encoded before.

Shapes: N histories, D width.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from model.arrays import Floats, Rows

_DIGEST_BYTES = 16

_Key = tuple[str, bytes]


class GurCache:
    """Keeps the GURs of the histories asked for last. Not safe for use by two threads at once.

    A history is known by its domain and a digest that nobody can make another history for. What is
    kept was made by the networks of one bundle: a cache is never shared by two.
    """

    def __init__(self, entries: int, on_lookups: Callable[[int, int], None]) -> None:
        """Make an empty cache.

        Args:
            entries: Most GURs kept, from 1; then the one that was not asked for the longest goes.
            on_lookups: Told of each look-up how many histories were kept, and how many were not.
        """
        self._entries = entries
        self._on_lookups = on_lookups
        self._gurs: OrderedDict[_Key, Floats] = OrderedDict()

    def __len__(self) -> int:
        """Count the GURs kept."""
        return len(self._gurs)

    def find(self, domain: str, histories: Sequence[Rows]) -> dict[int, Floats]:
        """Look up histories of one domain, each cut to what the encoder reads of it.

        Returns:
            The GURs that are kept, (D,), by the history's place.
        """
        found = {}
        for place, rows in enumerate(histories):
            key = _key(domain, rows)
            if key in self._gurs:
                self._gurs.move_to_end(key)
                found[place] = self._gurs[key]
        self._on_lookups(len(found), len(histories) - len(found))
        return found

    def keep(self, domain: str, histories: Sequence[Rows], gurs: Floats) -> None:
        """Keep the GURs of histories, (N, D), cut as they were looked up."""
        for rows, gur in zip(histories, gurs, strict=True):
            key = _key(domain, rows)
            self._gurs[key] = gur.copy()  # a view would keep its whole batch in memory
            self._gurs.move_to_end(key)
            if len(self._gurs) > self._entries:
                self._gurs.popitem(last=False)


def _key(domain: str, rows: Rows) -> _Key:
    read = rows.tobytes()
    if len(read) >= _DIGEST_BYTES:  # shorter ones stand for themselves, and equal no digest
        read = hashlib.blake2b(read, digest_size=_DIGEST_BYTES).digest()
    return domain, read
