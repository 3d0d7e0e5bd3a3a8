"""What kind of index to build: a checked spec for each kind, told apart by `kind`.

A spec is written beside its index, and says how the index is made and how it is searched, so that a
release answers with what was measured. All but `flat` are approximate: they propose rows, which are
then scored again exactly from the item table.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from model.errors import BadArtifactError
from model.files import canonical_json, writing
from model.settings import DeviceChoice, Settings

T = TypeVar("T")

Rerank = Annotated[float, Field(ge=1, le=1000)]
"""Rows that an index is asked for, as a multiple of those wanted; all are scored exactly. More find
what coarse numbers misplaced, and cost a read of the item table each."""

Links = Annotated[int, Field(ge=2, le=256)]
"""Links of an item, twice as many on the ground: more find more, in more memory."""

Effort = Annotated[int, Field(ge=1, le=1 << 20)]
"""Items kept in view while the links are followed (FAISS's efConstruction, efSearch)."""

Lists = Annotated[int, Field(ge=1, le=1 << 24)]
"""Lists that items are parted into, each of items near one another."""

MilvusName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")]
"""What Milvus takes as the name of a collection or an alias."""

MilvusStructure = Literal["hnsw", "flat"]
"""How Milvus searches: along links, or comparing a query with every vector."""

Probes = Annotated[int, Field(ge=1, le=1 << 24)]
"""Lists that a search looks through, the nearest to the query (FAISS's nprobe)."""

Group = Annotated[int, Field(ge=1, le=64)]
"""Numbers of a vector that share a code of 4 bits: fewer find more, in more memory."""


class FlatSpec(Settings):
    """Every vector as it is, each query compared with all of them: exact."""

    kind: Literal["flat"] = "flat"


class HalfSpec(Settings):
    """Every vector in float16, each query compared with all of them: half the memory to read."""

    kind: Literal["flat-f16"] = "flat-f16"
    rerank: Rerank = 1.5


class ByteSpec(Settings):
    """Every vector in bytes between the extremes of its column: a quarter of the memory to read."""

    kind: Literal["flat-int8"] = "flat-int8"
    rerank: Rerank = 2


class HnswSpec(Settings):
    """Vectors in float16, linked to near ones; a search follows the links."""

    kind: Literal["hnsw"] = "hnsw"
    links: Links = 32
    build_effort: Effort = 100
    """Items kept in view when an item's links are chosen: more find more, and build for longer."""
    build_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads that link: with several, which do not wait for each other, two builds differ."""
    effort: Effort = 64
    rerank: Rerank = 1.5


class IvfSpec(Settings):
    """Vectors as they are, in lists; a search looks through the lists nearest to the query."""

    kind: Literal["ivf"] = "ivf"
    lists: Lists
    probes: Probes = 16
    rerank: Rerank = 1
    """The lists hold the numbers of the table: only rounding is to be made good."""


class IvfByteSpec(Settings):
    """As `ivf`, but the lists hold a byte a number: how far it is from the list's centre."""

    kind: Literal["ivf-int8"] = "ivf-int8"
    lists: Lists
    probes: Probes = 16
    rerank: Rerank = 2


class IvfPqSpec(Settings):
    """Codes of 4 bits for groups of numbers, in lists: the smallest, in need of most re-ranking."""

    kind: Literal["ivf-pq"] = "ivf-pq"
    lists: Lists
    group: Group = 1
    probes: Probes = 16
    rerank: Rerank = 16


class MilvusSpec(Settings):
    """Vectors in a collection of Milvus; where that runs is a setting, not part of a release."""

    kind: Literal["milvus"] = "milvus"
    collection: MilvusName
    """Holds the vectors of this release alone."""
    alias: MilvusName
    """Stands for the collection while `LATEST` names the release."""
    items: Annotated[int, Field(ge=1)]
    structure: MilvusStructure = "hnsw"
    links: Links = 32
    build_effort: Effort = 100
    effort: Effort = 64
    rerank: Rerank = 1
    """Collections hold the numbers of the table: only rounding is to be made good."""


ListedSpec = IvfSpec | IvfByteSpec | IvfPqSpec
"""The spec of an index that parts items into lists."""

ApproximateSpec = HalfSpec | ByteSpec | HnswSpec | ListedSpec
"""The spec of an index of FAISS whose answers are proposals."""

IndexSpec = FlatSpec | ApproximateSpec
"""The spec of an index of FAISS, of any kind."""

AnySpec = IndexSpec | MilvusSpec
"""The spec of an index, wherever it is kept."""

_READER: TypeAdapter[AnySpec] = TypeAdapter(Annotated[AnySpec, Field(discriminator="kind")])

ApproximateKind = Literal["flat-f16", "flat-int8", "hnsw", "ivf", "ivf-int8", "ivf-pq"]
Kind = Literal["flat", "flat-f16", "flat-int8", "hnsw", "ivf", "ivf-int8", "ivf-pq"]
KINDS: tuple[Kind, ...] = ("flat", "flat-f16", "flat-int8", "hnsw", "ivf", "ivf-int8", "ivf-pq")

KindChoice = Literal["auto", Kind, "milvus"]
"""What may be asked for: `auto` finds a kind that is quick enough."""

GpuUse = Literal["first", "replicas", "shards"]
"""What is made of several GPUs: the `first` alone holds the indexes, or each holds them whole and
answers a part of every batch (`replicas`), or each holds a part (`shards`)."""


class StoredOptions(Settings):
    """The tables `[index.flat_f16]` and `[index.flat_int8]`."""

    rerank: Rerank | None = None
    """None: the least that reaches the recall wanted."""


class HnswOptions(Settings):
    """The table `[index.hnsw]`."""

    links: Links = 32
    build_effort: Effort = 100
    build_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """With more than one, two builds of one bundle differ."""
    effort: Effort | None = None
    """None: the least that reaches the recall wanted."""


class IvfOptions(Settings):
    """The table `[index.ivf]`."""

    lists: Lists | None = None
    """None: four times the square root of the number of items."""
    probes: Probes | None = None
    """None: the fewest that reach the recall wanted."""


class IvfCodesOptions(IvfOptions):
    """The table `[index.ivf_int8]`."""

    rerank: Rerank | None = None
    """None: the least that reaches the recall wanted; it rises with the probes."""


class IvfPqOptions(IvfCodesOptions):
    """The table `[index.ivf_pq]`."""

    group: Group = 1


class MilvusOptions(Settings):
    """The table `[index.milvus]`."""

    structure: MilvusStructure = "hnsw"
    """`flat` finds all there is, in a time that grows with the items over the query nodes."""
    links: Links = 32
    build_effort: Effort = 100
    effort: Effort | None = None
    """None: the least that reaches the recall wanted; of `hnsw` alone, like the two above."""
    rerank: Rerank = 1


class IndexSettings(Settings):
    """The settings of `recguru indexer build`."""

    kind: KindChoice = "auto"
    """Kind of index; `auto` takes `flat` while that is quick enough, else the quickest that finds
    enough. `milvus` keeps it in another process, and is taken only where it is named."""

    device: DeviceChoice = "auto"
    """Where the finished index is tried before it is published; `auto` takes a GPU where one is."""

    gpus: GpuUse = "first"
    """Which of several GPUs hold it then; of no effect on a CPU or with one GPU."""

    check_queries: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Queries a domain that a finished `flat` index must answer as exact search does."""

    k: Annotated[int, Field(ge=1, le=1000)] = 10
    """Rows asked for when recall and time are measured."""

    recall: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Share of the true k best rows that an approximate index must find."""

    latency_ms: Annotated[float, Field(gt=0)] = 5
    """`auto` takes the exact index while 99 of 100 queries, one at a time on one thread, take no
    longer than this."""

    queries: Annotated[int, Field(ge=1, le=100_000)] = 500
    """Queries a domain that an approximate index is tuned with, at most, and as many others that it
    is then judged by."""

    auto_kinds: Annotated[tuple[ApproximateKind, ...], Field(min_length=1)] = ("ivf-int8",)
    """Kinds that `auto` builds and compares where exact search is too slow: the quickest of all
    that were measured, in little memory."""

    rebuild_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """An update appends to an index that takes long to build, and builds it anew where the entries
    removed and added since the last time are more than this share of the items."""

    max_attribute_values: Annotated[int, Field(ge=1, le=1 << 16)] = 1000
    """Different values that the items of a domain may have of one attribute. Each is a bitmap of
    all items, 183 kB for the paper's 1.46 M; what has more values, such as a brand, is better given
    by its larger ones, or as named candidate sets."""

    flat_f16: StoredOptions = StoredOptions()
    flat_int8: StoredOptions = StoredOptions()
    hnsw: HnswOptions = HnswOptions()
    ivf: IvfOptions = IvfOptions()
    ivf_int8: IvfCodesOptions = IvfCodesOptions()
    ivf_pq: IvfPqOptions = IvfPqOptions()
    milvus: MilvusOptions = MilvusOptions()


def write_spec(spec: AnySpec, path: Path) -> None:
    """Write a spec as JSON."""
    with writing(path):
        path.write_bytes(canonical_json(spec.model_dump()))


def read_spec(path: Path) -> AnySpec:
    """Read a spec that `write_spec` wrote.

    Raises:
        BadArtifactError: If the file is missing or holds no spec this version knows.
    """
    return read_checked(path, _READER, "index spec")


def read_checked(path: Path, reader: TypeAdapter[T], what: str) -> T:
    """Read JSON that lies beside an index; `what` says in a message what it should be.

    Raises:
        BadArtifactError: If the file is missing or holds nothing of the kind.
    """
    try:
        return reader.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise BadArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        raise BadArtifactError(
            f"{path} holds no {what} of this version: {place}: {first['msg']}"
        ) from None
