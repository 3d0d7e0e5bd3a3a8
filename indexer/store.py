"""Where releases are kept: a release root, and Milvus for those whose index lies there."""

from dataclasses import dataclass, field
from pathlib import Path

from indexer.milvus_api import MilvusSettings


@dataclass(frozen=True, slots=True)
class Store:
    """A place to build releases into."""

    root: Path
    """The release root; made where it is missing."""
    milvus: MilvusSettings = field(default_factory=MilvusSettings)
    """Where Milvus runs: for indexes that are kept there, and to remove what dead builds left."""
