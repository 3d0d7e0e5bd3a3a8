"""Readers of interaction logs, one module a format."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from model.data.formats import Format
from model.data.sources.amazon import read_amazon
from model.data.sources.collected import read_collected
from model.data.sources.reading import Reader
from model.data.sources.sequences import read_sequences
from model.data.sources.table import read_table

READERS: Final[Mapping[Format, Reader]] = MappingProxyType(
    {
        "sequences": read_sequences,
        "amazon": read_amazon,
        "table": read_table,
        "collected": read_collected,
    }
)
