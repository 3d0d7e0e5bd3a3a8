"""A bundle at work, against the networks called one user at a time.

Shapes: B users, D width, V items.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.arrays import Floats, Rows
from model.basis import Basis
from model.bundle import Bundle, DomainTables, write_bundle
from model.data.vocabulary import StringTable, Vocabulary
from model.errors import BadArtifactError, NotFoundError, UnavailableDeviceError
from model.inference import BundleScorer, Encoded, Inference, show_gurs
from model.networks.settings import NetworkSettings
from model.networks.system import ServingNetworks, initialise
from model.weight_names import item_table_name

ITEMS = {"books": 9, "films": 14}
SIZE = NetworkSettings(
    width=12, heads=3, layers=2, feed_forward=20, max_history=8, recent=5, dropout=0.4
)
TOLERANCE = 1e-5
History = dict[str, Rows]


def rows(*numbers: int) -> Rows:
    return np.asarray(numbers, np.int32)


# A user of each kind for the target domain films; histories longer than is read among them.
HISTORIES: list[History] = [
    {"films": rows(3, 14, 1), "books": rows(9, 2)},
    {"films": rows(5)},
    {"books": rows(1, 2, 3, 4)},
    {},
    {"films": rows(*range(1, 15)), "books": rows(*range(1, 10))},
    {"films": rows(), "books": rows(7)},
    {"films": rows(2, 2, 7, 7, 1, 13)},
]
BASES = [
    Basis.PERSONALIZED,
    Basis.PERSONALIZED,
    Basis.CROSS_DOMAIN,
    Basis.POPULARITY,
    Basis.PERSONALIZED,
    Basis.CROSS_DOMAIN,
    Basis.PERSONALIZED,
]


@pytest.fixture(scope="module")
def networks() -> ServingNetworks:
    """Draw the networks that are in the bundle."""
    networks = ServingNetworks(ITEMS, SIZE)
    initialise(networks, torch.Generator().manual_seed(1))
    return networks.requires_grad_(requires_grad=False).eval()


def write(
    folder: Path,
    networks: ServingNetworks,
    *,
    size: Mapping[str, Any],
    change: Callable[[dict[str, Floats]], object] = lambda _: None,
) -> Bundle:
    weights = {name: value.numpy() for name, value in networks.state_dict().items()}
    domains = []
    for name, items in ITEMS.items():
        ids = Vocabulary(StringTable.of(f"{name}{item:02d}" for item in range(items)))
        popularity = np.arange(items + 1, dtype=np.float32) / (items * (items + 1) / 2)
        domains.append(DomainTables(name, ids, weights.pop(item_table_name(name)), popularity))
    change(weights)
    folder.mkdir()
    write_bundle(folder, domains, weights, network=size, dataset="d", training={})
    return Bundle.read(folder)


@pytest.fixture(scope="module")
def bundle(networks: ServingNetworks, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Write and open a bundle of the networks."""
    folder = tmp_path_factory.mktemp("inference") / "bundle"
    return write(folder, networks, size=SIZE.model_dump())


@pytest.fixture(scope="module")
def inference(bundle: Bundle) -> Inference:
    """Load the networks of the bundle."""
    return Inference.load(bundle, device="cpu")


def assert_same(found: Encoded, expected: Encoded) -> None:
    np.testing.assert_allclose(found.gurs, expected.gurs, atol=TOLERANCE)
    np.testing.assert_allclose(found.preferences, expected.preferences, atol=TOLERANCE)
    assert found.bases == expected.bases


def gur_of(networks: ServingNetworks, domain: str, history: Rows) -> torch.Tensor:
    last: torch.Tensor = networks.gur_encoder(domain, torch.tensor(history[-8:].tolist())[None])
    return last


def preference_of(networks: ServingNetworks, history: History) -> Floats:
    """Ask the films' recommender about one user, without padding or GURs that are not there."""
    own, other = history.get("films", rows()), history.get("books", rows())
    recent = torch.tensor(own[-5:].tolist(), dtype=torch.int64)[None]
    steps = recent.shape[1] + 1
    gurs, shown = [], []
    if len(own):
        gurs.append(gur_of(networks, "films", own))
        shown.append([step == steps - 1 for step in range(steps)])
    if len(other):
        gurs.append(gur_of(networks, "books", other))
        shown.append([True] * steps)
    found = networks.recommender("films")(
        recent, torch.stack(gurs, dim=1), torch.tensor(shown).T[None]
    )
    preference: Floats = found[0, -1].numpy()
    return preference


def test_an_answer_rests_on_what_is_known(inference: Inference) -> None:
    assert inference.encode("films", HISTORIES).bases == BASES
    mirrored = [{"films": rows(1)}, {"books": rows(1)}, {}]
    found = inference.encode("books", mirrored).bases
    assert found == [Basis.CROSS_DOMAIN, Basis.PERSONALIZED, Basis.POPULARITY]


def test_each_user_of_a_batch_is_encoded_as_if_alone(inference: Inference) -> None:
    together = inference.encode("films", HISTORIES)
    for user, history in enumerate(HISTORIES):
        part = slice(user, user + 1)
        expected = Encoded(together.gurs[part], together.preferences[part], [BASES[user]])
        assert_same(inference.encode("films", [history]), expected)


def test_the_gur_is_that_of_the_own_history_else_of_the_other(
    inference: Inference, networks: ServingNetworks
) -> None:
    found = inference.encode("films", HISTORIES)
    assert found.gurs.shape == (len(HISTORIES), 12)
    assert found.gurs.dtype == np.float32
    for gur, history, basis in zip(found.gurs, HISTORIES, BASES, strict=True):
        if basis is not Basis.POPULARITY:
            domain = "films" if basis is Basis.PERSONALIZED else "books"
            expected = gur_of(networks, domain, history[domain])[0].numpy()
            np.testing.assert_allclose(gur, expected, atol=TOLERANCE)


def test_the_preference_is_the_recommenders_last_word(
    inference: Inference, networks: ServingNetworks
) -> None:
    found = inference.encode("films", HISTORIES)
    assert found.preferences.dtype == np.float32
    for preference, history, basis in zip(found.preferences, HISTORIES, BASES, strict=True):
        if basis is not Basis.POPULARITY:
            expected = preference_of(networks, history)
            np.testing.assert_allclose(preference, expected, atol=TOLERANCE)


def test_a_user_of_whom_nothing_is_known_is_zeros(inference: Inference) -> None:
    found = inference.encode("films", [{}, {"films": rows()}])
    assert not found.gurs.any()
    assert not found.preferences.any()


def test_an_empty_history_is_the_same_as_none(inference: Inference) -> None:
    assert_same(
        inference.encode("films", [{"films": rows(4), "books": rows()}]),
        inference.encode("films", [{"films": rows(4)}]),
    )


def test_what_is_known_in_the_other_domain_moves_the_preference(inference: Inference) -> None:
    own = rows(3, 14, 1)
    found = inference.encode(
        "films",
        [{"films": own}, {"films": own, "books": rows(9)}, {"films": own, "books": rows(2)}],
    )
    assert abs(found.preferences[0] - found.preferences[1]).max() > 1e-3
    assert abs(found.preferences[1] - found.preferences[2]).max() > 1e-3
    np.testing.assert_allclose(found.gurs[0], found.gurs[1], atol=TOLERANCE)


def test_with_a_cold_memory_the_other_domain_counts_for_newcomers_alone(
    networks: ServingNetworks, inference: Inference, tmp_path: Path
) -> None:
    size = SIZE.model_dump() | {"memory": "cold"}
    cold = Inference.load(write(tmp_path / "cold", networks, size=size), device="cpu")
    found, plain = cold.encode("films", HISTORIES), inference.encode("films", HISTORIES)
    assert found.bases == plain.bases
    np.testing.assert_allclose(found.gurs, plain.gurs, atol=TOLERANCE)
    newcomers = [2, 5]
    assert np.abs(found.preferences[2] - found.preferences[5]).max() > 100 * TOLERANCE
    alone = [
        history if place in newcomers else {"films": history.get("films", rows())}
        for place, history in enumerate(HISTORIES)
    ]
    assert_same(cold.encode("films", alone), found)


@pytest.mark.parametrize("memory", ["none", "own", "other", "cold", "both"])
def test_preferences_alone_are_those_of_users_encoded_whole(
    memory: str, networks: ServingNetworks, tmp_path: Path
) -> None:
    size = SIZE.model_dump() | {"memory": memory}
    inference = Inference.load(write(tmp_path / "bundle", networks, size=size), device="cpu")
    for domain in ITEMS:
        found, whole = inference.prefer(domain, HISTORIES), inference.encode(domain, HISTORIES)
        np.testing.assert_allclose(found.preferences, whole.preferences, atol=TOLERANCE)
        assert found.bases == whole.bases
        known = [basis is not Basis.POPULARITY for basis in whole.bases]
        assert whole.gurs.any(axis=1).tolist() == known


@pytest.mark.parametrize("count", [0, 1, 512, 1300])
def test_any_number_of_users_is_answered_in_their_order(inference: Inference, count: int) -> None:
    asked = [HISTORIES[place * place % len(HISTORIES)] for place in range(count)]
    few = inference.prefer("films", HISTORIES).preferences
    found = inference.prefer_all("films", asked)
    expected = [few[place * place % len(HISTORIES)] for place in range(count)]
    np.testing.assert_allclose(
        found.preferences, np.reshape(expected, (count, SIZE.width)), atol=TOLERANCE
    )
    assert found.bases == [BASES[place * place % len(HISTORIES)] for place in range(count)]


def test_users_of_any_length_are_answered_in_the_order_they_came(tmp_path: Path) -> None:
    size = SIZE.model_copy(update={"max_history": 40, "recent": 40})
    long = ServingNetworks(ITEMS, size)
    initialise(long, torch.Generator().manual_seed(2))
    inference = Inference.load(write(tmp_path / "long", long, size=size.model_dump()), device="cpu")
    generator = np.random.default_rng(3)
    histories = [
        {
            "films": generator.integers(1, 15, first).astype(np.int32),
            "books": generator.integers(1, 10, second).astype(np.int32),
        }
        for first, second in [(40, 3), (1, 33), (17, 17), (0, 40), (9, 0), (2, 2), (25, 9)]
    ]
    together = inference.encode("films", histories)
    assert abs(np.diff(together.preferences, axis=0)).max(axis=1).min() > 1e-3
    for user, history in enumerate(histories):
        alone = inference.encode("films", [history])
        np.testing.assert_allclose(together.gurs[user], alone.gurs[0], atol=TOLERANCE)
        np.testing.assert_allclose(together.preferences[user], alone.preferences[0], atol=TOLERANCE)


def test_of_a_long_history_the_last_items_are_read(inference: Inference) -> None:
    long, other = rows(*range(1, 15)), rows(*range(1, 10))
    assert inference.max_history == 8
    assert_same(
        inference.encode("films", [{"films": long, "books": other}]),
        inference.encode("films", [{"films": long[-8:], "books": other[-8:]}]),
    )
    shorter = inference.encode("films", [{"films": long[-7:], "books": other[-8:]}])
    assert abs(shorter.gurs - inference.encode("films", [{"films": long}]).gurs).max() > 1e-3


def test_nobody_at_all_is_an_empty_answer(inference: Inference) -> None:
    found = inference.encode("books", [])
    assert (found.gurs.shape, found.preferences.shape, found.bases) == ((0, 12), (0, 12), [])


def test_an_unknown_domain_is_not_found(inference: Inference) -> None:
    with pytest.raises(NotFoundError) as caught:
        inference.encode("songs", [{}])
    assert str(caught.value) == "domain 'songs' is unknown; the model has books, films"


def test_what_is_loaded_says_what_it_is(inference: Inference) -> None:
    assert (inference.domains, inference.width) == (("books", "films"), 12)


def test_only_the_last_step_reads_the_own_gur() -> None:
    there = torch.tensor([[True, True], [True, False], [False, True]])
    shown = show_gurs(there, steps=3)
    assert shown[:, :, 0].tolist() == [
        [False, False, True],
        [False, False, True],
        [False, False, False],
    ]
    assert shown[:, :, 1].tolist() == [[True] * 3, [False] * 3, [True] * 3]
    assert there.tolist() == [[True, True], [True, False], [False, True]]


def test_scores_are_inner_products_and_the_popularity_of_items_for_strangers(
    bundle: Bundle, inference: Inference
) -> None:
    scorer = BundleScorer(bundle)
    for domain in ("films", "books"):
        tables = bundle.domain(domain)
        encoded = inference.encode(domain, HISTORIES)
        scores = scorer.scores(domain, HISTORIES)
        assert scores.shape == (len(HISTORIES), ITEMS[domain] + 1)
        for user, basis in enumerate(encoded.bases):
            expected = [
                tables.popularity[item]
                if basis is Basis.POPULARITY
                else float(np.dot(tables.item_table[item], encoded.preferences[user]))
                for item in range(1, ITEMS[domain] + 1)
            ]
            np.testing.assert_allclose(scores[user, 1:], expected, atol=TOLERANCE)


def test_scores_of_an_unknown_domain_are_not_found(bundle: Bundle) -> None:
    with pytest.raises(NotFoundError) as caught:
        BundleScorer(bundle).scores("songs", [{}])
    assert str(caught.value) == "domain 'songs' is not in the bundle; it has books, films"


def test_the_exported_bundle_of_a_dataset_can_be_loaded(tiny_bundle: Path) -> None:
    bundle = Bundle.read(tiny_bundle)
    scores = BundleScorer(bundle).scores("films", [{"films": rows(300, 1)}])
    assert scores.shape == (1, 301)
    assert np.isfinite(scores).all()


NORM = "gur_encoder.encoder.norm.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda weights: weights.pop(NORM), f'Missing key(s) in state_dict: "{NORM}".'),
        (
            lambda weights: weights.update({NORM: np.ones(13, np.float32)}),
            (
                f"size mismatch for {NORM}: copying a param with shape torch.Size([13]) from "
                "checkpoint, the shape in current model is torch.Size([12])."
            ),
        ),
        (
            lambda weights: weights.update(extra=np.ones(2, np.float32)),
            'Unexpected key(s) in state_dict: "extra".',
        ),
    ],
)
def test_weights_that_do_not_fit_the_networks_are_refused(
    change: Callable[[dict[str, Floats]], object],
    reason: str,
    networks: ServingNetworks,
    tmp_path: Path,
) -> None:
    bundle = write(tmp_path / "bundle", networks, size=SIZE.model_dump(), change=change)
    with pytest.raises(BadArtifactError) as caught:
        Inference.load(bundle, device="cpu")
    expected = f"{bundle.folder}: the weights do not fit: Error(s) in loading state_dict for "
    assert str(caught.value) == f"{expected}ServingNetworks: {reason}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"depth": 3}, "network.depth: Extra inputs are not permitted"),
        ({"heads": 0}, "network.heads: Input should be greater than or equal to 1"),
        ({"heads": 5}, "network: Value error, width 12 must be a multiple of heads 5"),
    ],
)
def test_network_settings_of_another_version_are_refused(
    changes: dict[str, int], problem: str, networks: ServingNetworks, tmp_path: Path
) -> None:
    bundle = write(tmp_path / "bundle", networks, size={**SIZE.model_dump(), **changes})
    with pytest.raises(BadArtifactError) as caught:
        Inference.load(bundle, device="cpu")
    assert str(caught.value) == f"{bundle.folder / 'manifest.json'}: {problem}"


def test_cuda_without_a_gpu_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on any machine
    expected = "device cuda was asked for, but torch sees no GPU; use --device cpu or auto"
    for load in (Inference.load, BundleScorer):
        with pytest.raises(UnavailableDeviceError) as caught:
            load(bundle, device="cuda")
        assert str(caught.value) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_gpu_encodes_as_the_cpu_does(bundle: Bundle, inference: Inference) -> None:
    found = Inference.load(bundle, device="cuda").encode("films", HISTORIES)
    expected = inference.encode("films", HISTORIES)
    np.testing.assert_allclose(found.gurs, expected.gurs, atol=1e-4)
    np.testing.assert_allclose(found.preferences, expected.preferences, atol=1e-4)
    assert found.bases == expected.bases


def test_encoding_leaves_the_callers_histories_and_the_global_generator_alone(
    inference: Inference,
) -> None:
    histories: Sequence[History] = [{"films": rows(*range(1, 15)), "books": rows(1)}]
    before = torch.get_rng_state()
    inference.encode("films", histories)
    assert histories[0]["films"].tolist() == list(range(1, 15))
    assert torch.equal(torch.get_rng_state(), before)
