"""Releases of three domains with networks drawn at random, and random questions to them."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from indexer.build import Extras, build
from indexer.spec import IndexSettings
from indexer.store import Store
from model.bundle import Bundle, DomainTables, write_bundle
from model.console import progress
from model.data.vocabulary import StringTable, Vocabulary
from model.networks.settings import Memory, NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.weight_names import item_table_name
from server.messages import Choice, Filter, RecommendQuestion
from tests.server.item_attributes import VALUES, write_table

ITEMS = {"books": 40, "films": 300, "songs": 120}
MAX_HISTORY = 12
CANDIDATES = "every-third"
_WIDER = 25


@cache
def item_ids(domain: str) -> list[str]:
    """List the items of a domain."""
    return [f"{domain[0]}{item:04d}" for item in range(ITEMS[domain])]


def release_of(folder: Path, memory: Memory, *, seed: int = 1) -> Path:
    """Write a bundle into a folder, and a release of it -> the release root.

    Items are drawn wide enough apart for every item of a history to move the answer. With a cold
    memory there are bridges too.
    """
    settings = NetworkSettings(
        width=16,
        heads=2,
        layers=2,
        feed_forward=32,
        max_history=MAX_HISTORY,
        recent=MAX_HISTORY - 4,
        memory=memory,
        bridge_share=0.5 if memory == "cold" else 0.0,
    )
    generator = torch.Generator().manual_seed(seed)
    networks = ServingNetworks(ITEMS, settings)
    initialise(networks, generator)
    for bridged in ITEMS if settings.bridge_share else ():
        networks.bridge(bridged).perceptron.draw(generator, out_spread=0.1)
    weights = {
        name: value.numpy() * (_WIDER if "embedding" in name else 1)
        for name, value in networks.state_dict().items()
    }
    domains = []
    for name, count in ITEMS.items():
        popularity = np.zeros(count + 1, np.float32)
        popularity[1:] = np.random.default_rng(seed).permutation(count) // 2  # equal ones, in pairs
        tables = weights.pop(item_table_name(name)), popularity / popularity.sum()
        domains.append(DomainTables(name, Vocabulary(StringTable.of(item_ids(name))), *tables))
    bundle = folder / f"bundle-{seed}"
    bundle.mkdir(parents=True)
    network = settings.model_dump(mode="json")
    write_bundle(bundle, domains, weights, network=network, dataset="d", training={})
    chosen = folder / f"{CANDIDATES}.txt"
    listed = "".join(f"{item}\n" for name in ITEMS for item in item_ids(name)[::3])
    chosen.write_text(listed, encoding="utf-8")
    with progress("index", 2 * len(ITEMS), quiet=True) as advance:
        build(
            Bundle.read(bundle),
            Store(folder / "releases"),
            settings=IndexSettings(device="cpu"),
            extras=Extras(
                candidates={CANDIDATES: chosen},
                attributes={name: write_table(folder, name, item_ids(name)) for name in ITEMS},
            ),
            advance=advance,
        )
    return folder / "releases"


def random_questions(count: int, generator: np.random.Generator) -> list[RecommendQuestion]:
    """Draw questions of every kind, some of which have no answer."""
    return [_question(generator) for _ in range(count)]


def _question(generator: np.random.Generator) -> RecommendQuestion:
    names = list(ITEMS)
    known = generator.permutation(names)[: generator.integers(0, len(names) + 1)].tolist()
    histories = {
        name: _ids(name, int(generator.integers(0, 2 * MAX_HISTORY + 1)), generator)
        for name in known
    }
    if generator.random() < 0.01:
        histories["nowhere"] = ["n0001"]
    domain = str(generator.choice([*names, "nowhere"], p=[0.33, 0.33, 0.33, 0.01]))
    among = domain if domain in ITEMS else "books"
    return RecommendQuestion(
        domain=domain,
        histories=histories,
        choice=_choice(among, generator),
        exclude_history=bool(generator.random() < 0.8),
        rank_item_ids=_ids(among, int(generator.choice([0, 0, 1, 10])), generator),
    )


def _choice(domain: str, generator: np.random.Generator) -> Choice:
    kind, listed = generator.random(), int(generator.integers(60))
    named = CANDIDATES if kind > 0.02 else "nobody's"
    return Choice(
        k=int(generator.choice([1, 10, 30, 60, 500])),
        candidate_items=_ids(domain, listed, generator) if kind > 0.8 else None,
        candidate_set=named if kind < 0.2 else None,
        exclude_item_ids=_ids(domain, int(generator.choice([0, 0, 5, 30])), generator),
        filters=[_filter(generator) for _ in range(generator.choice([0, 0, 0, 1, 2]))],
    )


def _filter(generator: np.random.Generator) -> Filter:
    return Filter(
        attribute="genre" if generator.random() > 0.02 else "nobody's",
        values=generator.choice(VALUES, int(generator.integers(1, 4))).tolist(),
        negate=bool(generator.random() < 0.3),
    )


def _ids(domain: str, count: int, generator: np.random.Generator) -> list[str]:
    """Draw items of a domain, some more than once, and now and then one that nobody knows."""
    items = item_ids(domain)
    drawn = generator.integers(len(items), size=count)
    known = generator.random(count) < 0.9
    return [items[item] if there else f"?{item}" for item, there in zip(drawn, known, strict=True)]
