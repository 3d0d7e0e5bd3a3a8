"""The systems there are, in the order of the table. To add one, add an entry.

Nothing heavy is imported before a system is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from model.comparison.grid import Space
from model.comparison.settings import Values, flattened
from model.comparison.systems import Entry, Fit, Task
from model.evaluation.protocol import Scorer
from model.settings import Settings
from model.training.presets import PAPER, RECGURU

if TYPE_CHECKING:
    from model.baselines.system import Kind


def _load(dotted: str) -> Any:  # noqa: ANN401  # whatever stands there
    module, name = dotted.split(":")
    return getattr(import_module(module), name)


def _settings(dotted: str) -> Callable[[], Settings]:
    def make() -> Settings:
        found: Settings | Callable[[], Settings] = _load(dotted)
        return found if isinstance(found, Settings) else found()

    return make


def _kind(dotted: str) -> Fit:
    def fit(task: Task) -> Scorer:
        kind: Kind[Settings] = _load(dotted)
        return kind.fit(task.data, task.settings, seed=task.seed)

    return fit


def _fitted_by(dotted: str) -> Fit:
    def fit(task: Task) -> Scorer:
        found: Fit = _load(dotted)
        return found(task)

    return fit


def _baseline(name: str, title: str, dotted: str, **more: Any) -> Entry:  # noqa: ANN401  # fields of Entry
    return Entry(name, title, _settings(f"{dotted}Settings"), _kind(dotted), **more)


def _ablation(name: str, title: str, changes: Values) -> Entry:
    """Describe RecGURU without one of its parts; it is not tuned apart."""
    return replace(_variant(f"recguru-{name}", title, changes, space={}), ablation=True)


def _variant(
    name: str,
    title: str,
    changes: Values,
    *,
    preset: Mapping[str, Any] = RECGURU,
    space: Space,
) -> Entry:
    """Describe a system of the RecGURU family: `recguru train` with a preset and some changes."""
    return Entry(
        name,
        title,
        _settings("model.training.settings:TrainSettings"),
        _fitted_by("model.comparison.recguru:fit"),
        changes={**flattened(preset), **changes},
        space=space,
        ours=True,
        on_device=True,
    )


_FACTORS: Space = {
    "learning_rate": [0.02, 0.05, 0.1],
    "decay": [0.01, 0.02, 0.05],
    "negatives": [4, 8, 16],
}
_TRANSFER: Space = {
    **{f"factors.{name}": values for name, values in _FACTORS.items()},
    "merge.learning_rate": [3e-3, 0.01, 0.03],
    "merge.epochs": [4, 8],
}
_PUBLISHED: Space = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "dropout": [0.2, 0.5],
    "max_history": [50, 100],
    "layers": [2, 3],
}
_NEIGHBOURS: Space = {
    "decay": [0.4, 0.6, 0.8, 1.0],
    "last": [3, 5, 10, None],
    "smoothing": [0.0, 3.0, 10.0, 30.0],
}
_SEQUENCES: Space = {
    "dropout": [0.2, 0.3, 0.4],
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "least_steps": [2100, 4200],
}
_RECGURU: Space = {
    "network.dropout": _SEQUENCES["dropout"],
    "fine_tuning.learning_rate": _SEQUENCES["learning_rate"],
    "fine_tuning.least_steps": _SEQUENCES["least_steps"],
}
_AUTO: Space = {
    "network.dropout": _SEQUENCES["dropout"],
    "fine_tuning.reconstruction_weight": [0.3, 1.0, 3.0],
}
_AS_PUBLISHED: Space = {
    "network.dropout": [0.1, 0.2, 0.3],
    "fine_tuning.learning_rate": [5e-4, 1e-3, 2e-3],
    "pre_training.epochs": [5, 10],
    "adversarial.adversarial_weight": [0.1, 1.0],
}
_AS_LARGE: Values = {"width": 128, "least_steps": 2100, "validation_steps": 50, "patience": 5}
"""What gives a strong sequence model the room, the time and the patience that RecGURU has."""
_ALONE: Values = {
    "network.bridge_share": 0.0,
    "pre_training.item_start": "neighbours",
    "fine_tuning.cold_weight": 0.0,
    "fine_tuning.shared_weight": 0.0,
    "fine_tuning.adversarial_weight": 0.0,
}
"""What makes two single-domain systems of the preset, but for the encoder they have in common."""
_WITH_AUTOENCODERS: Values = {
    **_ALONE,
    "network.memory": "own",
    "fine_tuning.reconstruction_weight": 1.0,
}

_ENTRIES = (
    _baseline("popularity", "POP", "model.baselines.popularity:Popularity", seeded=False),
    _baseline(
        "latest-popularity",
        "POP, latest rows",
        "model.baselines.popularity:LatestPopularity",
        space={"last": [1, 3, 5, 10]},
        seeded=False,
    ),
    _baseline(
        "co-occurrence",
        "Co-occurrence",
        "model.baselines.cooccurrence:Cooccurrence",
        space=_NEIGHBOURS,
        seeded=False,
    ),
    _baseline(
        "cross-co-occurrence",
        "Co-occurrence, cross-domain",
        "model.baselines.cooccurrence:CrossCooccurrence",
        space=_NEIGHBOURS,
        seeded=False,
    ),
    _baseline("bprmf", "BPRMF", "model.baselines.bprmf:Bprmf", space=_FACTORS),
    Entry(
        "sas",
        "SAS",
        _settings("model.baselines.sasrec:PUBLISHED"),
        _kind("model.baselines.sasrec:SasRec"),
        space=_PUBLISHED,
    ),
    _baseline(
        "sasrec-strong",
        "SASRec, strong",
        "model.baselines.sasrec:SasRec",
        changes={"dropout": 0.3, "learning_rate": 1e-3, **_AS_LARGE},
        space=_SEQUENCES,
    ),
    _baseline(
        "bert4rec",
        "Bert4Rec",
        "model.baselines.bert4rec:Bert4Rec",
        changes=_AS_LARGE,
        space={
            "learning_rate": _SEQUENCES["learning_rate"],
            "dropout": _SEQUENCES["dropout"],
            "masked_share": [0.2, 0.4, 0.6],
            "scaled_input": [True, False],
        },
    ),
    _baseline("cmf", "CMF", "model.baselines.cmf:Cmf", space=_FACTORS),
    _baseline("mfem", "MFEM", "model.baselines.mfem:Mfem", space=_TRANSFER),
    _baseline("cngan", "CnGAN", "model.baselines.cngan:CnGan", space=_TRANSFER),
    _baseline("doml", "DOML", "model.baselines.doml:Doml", space=_TRANSFER),
    _variant("seqrec", "SeqRec", {**_ALONE, "network.memory": "none"}, space=_RECGURU),
    _variant("autorec", "AutoRec", _WITH_AUTOENCODERS, space=_AUTO),
    replace(
        _variant("autoem", "AutoEM", _WITH_AUTOENCODERS, space=_AUTO),
        settings=_settings("model.comparison.autoem:AutoEmSettings"),
        fit=_fitted_by("model.comparison.autoem:fit"),
    ),
    _variant("recguru-paper", "RecGURU, published", {}, preset=PAPER, space=_AS_PUBLISHED),
    _variant("recguru", "RecGURU", {}, space=_RECGURU),
    _ablation("lone", "items scored alone", {"network.neighbours": 0}),
    _ablation("apart", "no joint start", {"pre_training.item_start": "neighbours"}),
    _ablation("joint", "all start joint", {"fine_tuning.item_start": "encoder"}),
    _ablation("other", "other GUR read by all", {"network.memory": "other"}),
    _ablation(
        "both", "both GURs read by all", {"network.memory": "both", "network.bridge_share": 0.0}
    ),
    _ablation("unbridged", "no bridges", {"network.bridge_share": 0.0}),
    _ablation(
        "unaligned",
        "no alignment",
        {
            "fine_tuning.adversarial_weight": 0.0,
            "fine_tuning.shared_weight": 0.0,
        },
    ),
)

SYSTEMS: Mapping[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""By name."""
