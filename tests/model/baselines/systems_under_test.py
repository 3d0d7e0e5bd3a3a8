"""The systems that the contract is about, small enough to be fitted in a moment."""

from dataclasses import dataclass
from typing import Any

from model.baselines.bert4rec import Bert4Rec, Bert4RecSettings
from model.baselines.bprmf import Bprmf, BprmfSettings
from model.baselines.cmf import Cmf, CmfSettings
from model.baselines.cngan import CnGan, CnGanSettings, GeneratorSettings
from model.baselines.cooccurrence import (
    Cooccurrence,
    CooccurrenceSettings,
    CrossCooccurrence,
    CrossCooccurrenceSettings,
)
from model.baselines.doml import Doml, DomlSettings
from model.baselines.factors import FactorSettings
from model.baselines.mfem import MappingSettings, Mfem, MfemSettings
from model.baselines.popularity import (
    LatestPopularity,
    LatestPopularitySettings,
    Popularity,
    PopularitySettings,
)
from model.baselines.sasrec import SasRec, SasRecSettings
from model.baselines.sequential import SequenceSettings
from model.baselines.system import Kind
from model.baselines.transfer import MergeSettings
from model.settings import Settings


@dataclass(frozen=True, slots=True)
class UnderTest:
    """A kind of system, and what it says of itself."""

    kind: Kind[Any]
    settings: Settings
    draws: bool = True
    """Whether what it learns follows from the seed."""
    personal: bool = True
    """Whether its answer depends on who asks."""
    transfers: bool = False
    """Whether it knows something of users who are new to a domain from the other one."""
    stops_early: bool = True
    """Whether validation rows may decide when learning ends."""


_FACTORS = FactorSettings(width=8, epochs=10, batch_rows=64, validation_epochs=5, decay=0.02)
_MERGE = MergeSettings(epochs=2, batch_rows=128, validation_epochs=1)
_NETWORK = SequenceSettings(
    width=16,
    layers=1,
    feed_forward=32,
    dropout=0.0,
    max_history=8,
    batch_users=16,
    epochs=8,
    learning_rate=1e-2,
).model_dump()

SYSTEMS: dict[str, UnderTest] = {
    "popularity": UnderTest(
        Popularity, PopularitySettings(), draws=False, personal=False, stops_early=False
    ),
    "popularity of latest rows": UnderTest(
        LatestPopularity,
        LatestPopularitySettings(),
        draws=False,
        personal=False,
        stops_early=False,
    ),
    "co-occurrence": UnderTest(
        Cooccurrence, CooccurrenceSettings(), draws=False, stops_early=False
    ),
    "co-occurrence, all rows alike": UnderTest(
        Cooccurrence,
        CooccurrenceSettings(decay=1, last=None, smoothing=0),
        draws=False,
        stops_early=False,
    ),
    "co-occurrence, across": UnderTest(
        CrossCooccurrence,
        CrossCooccurrenceSettings(),
        draws=False,
        transfers=True,
        stops_early=False,
    ),
    "bprmf": UnderTest(Bprmf, BprmfSettings(**_FACTORS.model_dump())),
    "cmf": UnderTest(Cmf, CmfSettings(**_FACTORS.model_dump()), transfers=True),
    "mfem": UnderTest(
        Mfem,
        MfemSettings(factors=_FACTORS, merge=_MERGE, mapping=MappingSettings(hidden=16, steps=80)),
        transfers=True,
    ),
    "cngan": UnderTest(
        CnGan,
        CnGanSettings(
            factors=_FACTORS, merge=_MERGE, generator=GeneratorSettings(hidden=16, steps=60)
        ),
        transfers=True,
    ),
    "doml": UnderTest(Doml, DomlSettings(factors=_FACTORS, merge=_MERGE), transfers=True),
    "sasrec": UnderTest(SasRec, SasRecSettings(**_NETWORK)),
    "sasrec, binary": UnderTest(SasRec, SasRecSettings(**_NETWORK, loss="bce")),
    "bert4rec": UnderTest(Bert4Rec, Bert4RecSettings(**_NETWORK)),
}
"""By the name that a test shows."""
