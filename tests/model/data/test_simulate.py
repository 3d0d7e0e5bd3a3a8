"""The simulated logs: their form, and that the truth behind them can be found again."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from model.arrays import Floats
from model.baselines.cooccurrence import Cooccurrence, CooccurrenceSettings
from model.baselines.popularity import Popularity, PopularitySettings
from model.data.dataset import Dataset
from model.data.popularity import popularity_shares
from model.data.simulate import SimulationSettings, simulate
from model.data.simulate_titles import GENRES, series_titles
from model.data.training_data import TrainingData
from model.errors import RecGuruError
from model.evaluation.protocol import History, Scorer, Users, questions
from model.evaluation.ranking import rank_in_process
from model.files import digests_of
from model.metrics import ndcg
from tests.model.dataset_making import read_logs

SETTINGS = SimulationSettings(users=(1500, 1000), items=(400, 300), seed=3)
SMALL = SimulationSettings(users=(60, 40), items=(100, 100), mean_length=6, shared_rate=0.25)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the logs once."""
    folder = tmp_path_factory.mktemp("simulated") / "logs"
    simulate(SETTINGS, folder)
    return folder


@pytest.fixture(scope="module")
def dataset(logs: Path) -> Dataset:
    """Return the logs as a dataset."""
    return read_logs(logs)


def _lines(folder: Path, domain: str) -> list[tuple[str, list[str], list[int]]]:
    lines = (folder / f"{domain}.sequences.tsv").read_text(encoding="utf-8").splitlines()
    parts = [line.split("\t") for line in lines]
    return [
        (user, ids.split(","), [int(t) for t in times.split(",")]) for user, ids, times in parts
    ]


def _numbers(ids: Sequence[str]) -> list[int]:
    return [int(each.rsplit("-", 1)[1]) for each in ids]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        simulate(SMALL.model_copy(update={"seed": seed}), tmp_path / name)

    one, two, three = (digests_of(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert [name for name in one if one[name] == three[name]] == []


@pytest.mark.parametrize(("place", "domain"), list(enumerate(SETTINGS.domains)))
def test_every_line_is_a_user_with_known_items_once_each_in_order_of_time(
    logs: Path, place: int, domain: str
) -> None:
    lines = _lines(logs, domain)
    items = (logs / f"{domain}.items.tsv").read_text(encoding="utf-8").splitlines()
    ids = {line.split("\t")[0] for line in items}

    users = [user for user, _, _ in lines]
    assert users == sorted(set(users))
    assert (len(users), len(ids)) == (SETTINGS.users[place], SETTINGS.items[place])
    for _, taken, times in lines:
        assert 1 <= len(set(taken)) == len(taken) == len(times)
        assert ids.issuperset(taken)
        assert all(before < after for before, after in pairwise(times))


@pytest.mark.parametrize("shared_rate", [0.0, 0.25, 1.0])
def test_the_chosen_share_of_the_smaller_domains_users_is_in_both(
    shared_rate: float, tmp_path: Path
) -> None:
    simulate(SMALL.model_copy(update={"shared_rate": shared_rate}), tmp_path / "logs")

    first, second = ({user for user, _, _ in _lines(tmp_path / "logs", d)} for d in SMALL.domains)
    assert (len(first), len(second)) == (60, 40)
    assert len(first & second) == 40 * shared_rate


def test_lengths_have_the_mean_asked_for_and_popularity_is_skewed(dataset: Dataset) -> None:
    for domain in dataset.domains:
        lengths = domain.sequences.lengths
        assert lengths.mean() == pytest.approx(SETTINGS.mean_length, rel=0.1)
        assert lengths.max() > 3 * SETTINGS.mean_length
        shares = np.sort(popularity_shares(domain))[::-1]
        assert 0.3 < shares[: len(shares) // 10].sum() < 0.8


def test_titles_are_readable_and_all_different(logs: Path) -> None:
    for domain, items in zip(SETTINGS.domains, SETTINGS.items, strict=True):
        lines = (logs / f"{domain}.items.tsv").read_text(encoding="utf-8").splitlines()
        titles = [line.split("\t")[1] for line in lines]
        assert len(set(titles)) == items
        assert all(title.startswith("The ") for title in titles)
        assert any(title.endswith(", vol. 2") for title in titles)


def test_titles_stay_different_when_the_words_run_out_and_between_genres() -> None:
    titles = [t for genre in GENRES for t in series_titles(genre, 2500, np.random.default_rng(1))]

    assert len(set(titles)) == 2500 * len(GENRES)


def test_the_truth_says_which_users_are_like_what_they_take(logs: Path) -> None:
    truth = json.loads((logs / "truth.json").read_text(encoding="utf-8"))
    tastes = np.load(logs / "truth_tastes.npy", allow_pickle=False)
    assert truth["settings"] == SETTINGS.model_dump(mode="json")
    assert truth["shared_users"] == 400
    assert len(tastes) == 1500 + 1000 - 400
    for domain, items in zip(SETTINGS.domains, SETTINGS.items, strict=True):
        vectors = np.load(logs / f"truth_{domain}_vectors.npy", allow_pickle=False)
        genres = np.load(logs / f"truth_{domain}_genres.npy", allow_pickle=False)
        assert len(vectors) == len(genres) == items
        assert set(genres.tolist()) == set(range(len(truth["genres"])))
        liking = [
            (tastes[_numbers([user])[0]] @ vectors[_numbers(taken)].T).mean()
            for user, taken, _ in _lines(logs, domain)
        ]
        assert np.mean(liking) > 3 * abs((tastes @ vectors.T).mean()) + 0.3


def test_the_last_item_tells_of_the_next_one_more_than_popularity_does(dataset: Dataset) -> None:
    for domain in SETTINGS.domains:
        assert _ndcg(dataset, domain, _Transitions(dataset)) > 3 * _ndcg(
            dataset, domain, _popularity(dataset)
        )


def test_what_goes_together_tells_more_than_popularity_and_order_adds_to_it(
    dataset: Dataset,
) -> None:
    for domain in SETTINGS.domains:
        popular, together, recent = (
            _ndcg(dataset, domain, scorer)
            for scorer in (
                _popularity(dataset),
                _together(dataset, decay=1.0),
                _together(dataset, decay=0.6),
            )
        )
        assert together > 2 * popular
        assert recent > 1.05 * together


def test_the_history_in_the_other_domain_tells_what_a_user_wants_in_this_one(
    logs: Path, dataset: Dataset
) -> None:
    for domain in SETTINGS.domains:
        popular, own, mistaken = (
            _ndcg(dataset, domain, scorer, shared=True)
            for scorer in (
                _popularity(dataset),
                _TasteElsewhere(logs, dataset, domain),
                _TasteElsewhere(logs, dataset, domain, mistaken=True),
            )
        )
        assert own > 1.8 * popular
        assert mistaken < 1.1 * popular  # the gain is knowledge of this user, not of the catalogue


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"the domains must have two names, not 'a' twice"):
        SimulationSettings(domains=("a", "a"))
    message = (
        r"100 items are too few for sequences of 20 on average: "
        r"there must be at least 10 times as many"
    )
    with pytest.raises(ValidationError, match=message):
        SimulationSettings(items=(800, 100), mean_length=20)


@pytest.mark.parametrize("name", ["", "Books", "../films", "a b"])
def test_a_name_that_cannot_name_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"domains\.0"):
        SimulationSettings(domains=(name, "films"))


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.txt").write_text("mine")

    message = f"^{tmp_path / 'logs'} exists already; choose another place or remove it first$"
    with pytest.raises(RecGuruError, match=message):
        simulate(SMALL, tmp_path / "logs")
    assert [path.name for path in tmp_path.rglob("*")] == ["logs", "mine.txt"]


def _ndcg(dataset: Dataset, domain: str, scorer: Scorer, *, shared: bool = False) -> float:
    asked = questions(dataset, domain)
    ranks = rank_in_process(scorer, asked).full
    return ndcg(ranks[asked.shared] if shared else ranks, 10)


def _popularity(dataset: Dataset) -> Scorer:
    return Popularity.fit(TrainingData.of(dataset), PopularitySettings(), seed=0)


def _together(dataset: Dataset, *, decay: float) -> Scorer:
    settings = CooccurrenceSettings(decay=decay, last=None, smoothing=0.0)
    return Cooccurrence.fit(TrainingData.of(dataset), settings, seed=0)


class _Transitions:
    """Counts which item follows which, popularity where nothing was seen to follow."""

    def __init__(self, dataset: Dataset) -> None:
        self.tables = {}
        for domain in dataset.domains:
            training = domain.training()
            table = np.tile(popularity_shares(domain), (len(domain.vocabulary) + 1, 1))
            for user in range(len(training)):
                np.add.at(table, (training[user][:-1], training[user][1:]), 1)
            self.tables[domain.name] = table

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        table: Floats = self.tables[domain]
        return table[[int(history[domain][-1]) for history in histories]]


class _TasteElsewhere:
    """Popularity, the truth about both catalogues, and the history in the other domain alone."""

    def __init__(
        self, logs: Path, dataset: Dataset, domain: str, *, mistaken: bool = False
    ) -> None:
        self.other = next(each for each in SETTINGS.domains if each != domain)
        self.vectors = {}
        for each in dataset.domains:
            true = np.load(logs / f"truth_{each.name}_vectors.npy", allow_pickle=False)
            self.vectors[each.name] = np.vstack([0 * true[:1], true[_numbers(each.vocabulary.ids)]])
        self.known = np.log(popularity_shares(dataset.domain(domain)) + 1e-6)
        self.mistaken = mistaken

    def scores(
        self, domain: str, histories: Sequence[History], users: Users | None = None
    ) -> Floats:
        tastes = np.zeros((len(histories), self.vectors[domain].shape[1]), np.float32)
        for user, history in enumerate(histories):
            if self.other in history:
                tastes[user] = self.vectors[self.other][history[self.other]].mean(axis=0)
        if self.mistaken:
            there = np.flatnonzero(tastes.any(axis=1))
            tastes[there] = tastes[np.roll(there, 1)]
        scores: Floats = self.known + 2 * tastes @ self.vectors[domain].T
        return scores
