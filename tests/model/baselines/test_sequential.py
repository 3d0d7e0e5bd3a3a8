"""What the sequence models do alike: a network per domain, from its training rows alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.baselines.bert4rec import Bert4Rec, Bert4RecSettings
from model.baselines.sasrec import SasRec, SasRecSettings
from model.baselines.sequential import SequenceSettings, SequenceSystem
from model.baselines.sequential_training import learning_rate
from model.baselines.system import Tensors
from model.data.dataset import Dataset
from model.data.training_data import TrainingData
from model.errors import BadArtifactError, NotFoundError, TrainingError
from model.evaluation.protocol import questions
from model.evaluation.ranking import rank_in_process
from model.evaluation.validation import Validation
from model.metrics import hit_rate
from tests.model.dataset_making import dataset_of, random_dataset, with_other_held_out_rows

SMALL: Mapping[str, object] = {
    "width": 16,
    "feed_forward": 32,
    "dropout": 0.1,
    "max_history": 6,
    "batch_users": 16,
    "epochs": 3,
    "negatives": 30,
}
WAYS = ("sasrec", "sasrec, binary", "bert4rec", "bert4rec, full softmax")

Fit = Callable[..., SequenceSystem]


def _fit(way: str, data: TrainingData, *, seed: int = 3, **settings: object) -> SequenceSystem:
    if way.startswith("sasrec"):
        loss = "bce" if "binary" in way else "softmax"
        chosen = SasRecSettings.model_validate({**SMALL, "loss": loss, **settings})
        return SasRec.fit(data, chosen, seed=seed)
    softmax = "full" if "full" in way else "sampled"
    hiding = Bert4RecSettings.model_validate({**SMALL, "softmax": softmax, **settings})
    return Bert4Rec.fit(data, hiding, seed=seed)


def _restore(way: str, data: TrainingData, tensors: Tensors, **settings: object) -> SequenceSystem:
    values = {**SMALL, **settings}
    if way.startswith("sasrec"):
        return SasRec.restore(data, SasRecSettings.model_validate(values), tensors)
    return Bert4Rec.restore(data, Bert4RecSettings.model_validate(values), tensors)


def _rings() -> Dataset:
    """Make domains where each item is followed by the next one in a ring: the answer is known."""
    generator = np.random.default_rng(1)
    books, films = (
        {
            f"u{user:03d}": ((np.arange(length) + first) % items + 1).tolist()
            for user, (length, first) in enumerate(
                zip(
                    generator.integers(4, 12, 150), generator.integers(items, size=150), strict=True
                )
            )
        }
        for items in (25, 40)
    )
    return dataset_of(books, films, items=(25, 40))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Return two unlike domains."""
    return random_dataset(np.random.default_rng(1), users=60, items=50)


@pytest.fixture(scope="module")
def data(dataset: Dataset) -> TrainingData:
    """Return what may be learned from them."""
    return TrainingData.of(dataset)


def _histories(data: TrainingData, place: int) -> list[dict[str, np.ndarray]]:
    domain = data.domains[place]
    return [{domain.name: domain.training[user]} for user in range(30)]


@pytest.mark.parametrize("start", ["neighbours", "random"])
@pytest.mark.parametrize("way", WAYS)
def test_a_ring_is_learned(way: str, start: str) -> None:
    dataset = _rings()
    system = _fit(
        way,
        TrainingData.of(dataset),
        epochs=15,
        learning_rate=2e-2,
        dropout=0.0,
        item_start=start,
    )
    for domain in ("books", "films"):
        ranks = rank_in_process(system, questions(dataset, domain))
        assert hit_rate(ranks.full, 3) > 0.9


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
@pytest.mark.parametrize(("start", "near"), [("neighbours", True), ("random", False)])
def test_items_start_near_what_stands_near_them_or_at_random(
    way: str, start: str, near: bool
) -> None:
    system = _fit(way, TrainingData.of(_rings()), epochs=0, item_start=start)
    table = np.asarray(system.tensors()["films.items.weight"])[1:41]
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    after = (table * np.roll(table, -1, axis=0)).sum(axis=1).mean()
    across = (table * np.roll(table, 20, axis=0)).sum(axis=1).mean()
    assert (after - across > 0.3) == near


def test_users_with_one_training_row_take_no_place_of_those_with_more() -> None:
    """They come first, and as many as there are users to learn from."""
    generator = np.random.default_rng(2)
    rings = {
        f"u{user:03d}": ((np.arange(8) + generator.integers(25)) % 25 + 1).tolist()
        for user in range(60)
    }
    one_row = {f"a{user:03d}": [25, 25, 25] for user in range(60)}
    dataset = dataset_of({**one_row, **rings}, rings, items=(25, 25))

    system = _fit(
        "sasrec",
        TrainingData.of(dataset),
        epochs=30,
        learning_rate=2e-2,
        dropout=0.0,
        item_start="random",
        negatives=25,
    )

    history = [{"books": np.arange(first, first + 5, dtype=np.int32)} for first in range(1, 20)]
    found = system.scores("books", history)[:, 1:].argsort(axis=1)[:, ::-1][:, :3] + 1
    assert np.mean([first + 5 in best for first, best in enumerate(found, start=1)]) > 0.8


@pytest.mark.parametrize("way", WAYS)
def test_the_seed_decides_every_weight_and_no_global_generator_is_drawn_from(
    way: str, data: TrainingData
) -> None:
    before = torch.get_rng_state()
    first, again, other = (_fit(way, data, seed=seed).tensors() for seed in (4, 4, 5))

    assert list(first) == list(again)
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("way", WAYS)
def test_a_restored_system_scores_bit_for_bit_alike(way: str, data: TrainingData) -> None:
    system = _fit(way, data)
    restored = _restore(way, data, system.tensors())
    for place, domain in enumerate(data.domains):
        histories = _histories(data, place)
        scores = system.scores(domain.name, histories)
        assert (restored.scores(domain.name, histories) == scores).all()
        assert scores.shape == (30, domain.items + 1)
        assert scores.dtype == np.float32


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
def test_weights_of_another_size_are_refused(way: str, data: TrainingData) -> None:
    tensors = _fit(way, data, epochs=0).tensors()
    shape = (
        r"^tensor 'books.items.weight' of the stored system has shape \(52, 16\), not \(52, 18\);"
    )
    with pytest.raises(BadArtifactError, match=shape):
        _restore(way, data, tensors, width=18)
    without = {name: weight for name, weight in tensors.items() if name != "films.norm.weight"}
    absent = r"^the stored system has no tensor 'films.norm.weight'$"
    with pytest.raises(BadArtifactError, match=absent):
        _restore(way, data, without)


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
def test_who_has_no_history_in_the_domain_gets_its_popularity(way: str, data: TrainingData) -> None:
    system = _fit(way, data, epochs=1)
    books, films = data.domains
    elsewhere = {films.name: films.training[0]}

    scores = system.scores("books", [{}, {"books": books.training[3]}, elsewhere])

    rows = books.training.rows.tolist()
    shares = [rows.count(item) / len(rows) for item in range(books.items + 1)]
    assert scores[0].tolist() == pytest.approx(shares)
    assert (scores[2] == scores[0]).all()
    assert (scores[1] != scores[0]).any()


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
def test_only_the_newest_rows_are_read(way: str, data: TrainingData) -> None:
    system = _fit(way, data, epochs=1, max_history=4)
    newest = [9, 2, 7, 5]

    def scores(rows: list[int]) -> np.ndarray:
        return system.scores("books", [{"books": np.array(rows, np.int32)}])

    assert (scores([1, 3, 4, *newest]) == scores(newest)).all()
    assert (scores([1, *newest[1:]]) != scores(newest)).any()


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
def test_a_batch_answers_as_its_users_do_singly(way: str, data: TrainingData) -> None:
    system, histories = _fit(way, data), _histories(data, 1)
    batch = system.scores("films", histories)
    for scores, history in zip(batch, histories, strict=True):
        np.testing.assert_allclose(scores, system.scores("films", [history])[0], atol=1e-5)


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
@pytest.mark.parametrize("back", [1, 2])
def test_held_out_rows_change_no_weight_of_one_epoch(way: str, back: int, dataset: Dataset) -> None:
    other = with_other_held_out_rows(dataset, np.random.default_rng(4), back=back)
    first, second = (
        _fit(way, TrainingData.of(each), epochs=1).tensors() for each in (dataset, other)
    )
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("way", ["sasrec", "bert4rec"])
def test_a_domain_does_not_touch_the_other(way: str, dataset: Dataset) -> None:
    books, films = dataset.domains
    alone = dataset_of(
        {user: books.sequences[place].tolist() for place, user in enumerate(books.users)},
        {"someone": [1, 2, 3, 4]},
        items=(len(books.vocabulary), 5),
    )
    first, second = (_fit(way, TrainingData.of(each)).tensors() for each in (dataset, alone))
    own = [name for name in first if name.startswith("books.")]
    assert all((first[name] == second[name]).all() for name in own)
    assert len(films.vocabulary) != 5


@pytest.mark.parametrize("way", WAYS)
def test_users_of_one_training_row_are_passed_over(way: str) -> None:
    short = {"ann": [1, 2, 3], "bob": [2]}
    data = TrainingData.of(dataset_of(short, short, items=(4, 5)))
    system = _fit(way, data)
    untrained = _fit(way, data, epochs=0).tensors()
    assert all((weight == untrained[name]).all() for name, weight in system.tensors().items())
    scores = system.scores("films", [{"films": np.array([1, 2], np.int32)}])
    assert scores.shape == (1, 6)
    assert np.isfinite(scores).all()


def test_training_ends_when_patience_is_used_up(data: TrainingData) -> None:
    once = _fit("sasrec", data, epochs=1, decay=False, learning_rate=1e-9)
    long = _fit("sasrec", data, epochs=1_000_000, decay=False, learning_rate=1e-9, patience=1)
    for name, weight in once.tensors().items():
        assert long.tensors()[name] == pytest.approx(weight, abs=1e-6)


def test_the_weights_at_the_end_are_validated_wherever_the_looks_fall(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.1, 0.2] * len(data.domains))  # the end is better than the look before it
    monkeypatch.setattr(Validation, "ndcg_at_10", lambda *_: next(figures))
    settings = {"epochs": 3, "batch_users": 10_000, "decay": False}

    looked = _fit("sasrec", data, validation_steps=2, **settings).tensors()

    monkeypatch.setattr(Validation, "ndcg_at_10", lambda *_: 0.0)
    first = _fit("sasrec", data, validation_steps=2, **settings).tensors()
    last = _fit("sasrec", data, validation_steps=3, **settings).tensors()
    assert all((looked[name] == last[name]).all() for name in last)
    assert any((first[name] != last[name]).any() for name in last)


def test_small_data_is_passed_over_until_there_are_least_steps(data: TrainingData) -> None:
    def weights(epochs: int, least_steps: int) -> Tensors:
        # One batch holds all users of a domain: an epoch is a step.
        settings = {"epochs": epochs, "least_steps": least_steps, "batch_users": 10_000}
        return _fit("sasrec", data, patience=9, **settings).tensors()

    four = weights(4, 0)
    for epochs, least_steps, same in ((1, 4, True), (4, 1, True), (1, 3, False), (0, 4, False)):
        other = weights(epochs, least_steps)
        assert all((weight == other[name]).all() for name, weight in four.items()) == same


def test_small_data_is_looked_at_after_some_steps_alone(data: TrainingData) -> None:
    def weights(validation_steps: int) -> Tensors:
        # Nothing is better than the weights of the first look.
        return _fit(
            "sasrec",
            data,
            learning_rate=1e-9,
            decay=False,
            batch_users=10_000,
            epochs=5,
            patience=1,
            validation_steps=validation_steps,
        ).tensors()

    start = _fit("sasrec", data, epochs=0).tensors()
    bias = "films.norm.bias"
    once, later = (np.abs(np.subtract(weights(steps)[bias], start[bias])).max() for steps in (1, 3))
    assert later == pytest.approx(3 * once, rel=0.1)


def test_more_epochs_never_validate_worse_because_the_best_one_is_kept(data: TrainingData) -> None:
    validation = Validation(data, "films")
    figures = [
        validation.ndcg_at_10(_fit("sasrec", data, epochs=epochs, decay=False, patience=9))
        for epochs in range(1, 8)
    ]
    assert figures == sorted(figures)
    assert figures[0] < figures[-1]


def test_where_no_row_is_kept_for_validation_the_last_epoch_is_kept(data: TrainingData) -> None:
    domains = [replace(each, validation=0 * each.validation) for each in data.domains]
    blind = TrainingData((domains[0], domains[1]), data.shared)
    once, thrice = (
        _fit("sasrec", blind, epochs=epochs, decay=False, patience=1).tensors() for epochs in (1, 3)
    )
    assert all(
        (once[f"{name}.items.weight"] != thrice[f"{name}.items.weight"]).any()
        for name in ("books", "films")
    )


def test_weights_that_are_no_numbers_stop_the_training(data: TrainingData) -> None:
    with pytest.raises(TrainingError, match=r"is no longer finite; lower the learning rate"):
        _fit("sasrec", data, learning_rate=1e38)


def test_the_learning_rate_falls_to_zero_in_a_straight_line_or_stays() -> None:
    falling = SequenceSettings(learning_rate=0.004)
    assert [learning_rate(falling, step, 4) for step in range(4)] == [0.004, 0.003, 0.002, 0.001]
    constant = SequenceSettings(learning_rate=0.004, decay=False)
    assert [learning_rate(constant, step, 4) for step in range(4)] == [0.004] * 4


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 4"):
        SequenceSettings(width=10, heads=4)


def test_an_unknown_domain_is_refused_by_name(data: TrainingData) -> None:
    message = r"^domain 'games' is not in the dataset; it has books, films$"
    with pytest.raises(NotFoundError, match=message):
        _fit("sasrec", data, epochs=0).scores("games", [{}])
