"""What the transfer baselines make of two vectors, against values by hand and planted maps."""

import numpy as np
import pytest
import torch

from model.arrays import Floats
from model.baselines.bprmf import Bprmf, BprmfSettings
from model.baselines.cmf import Cmf, CmfSettings
from model.baselines.cngan import GeneratorSettings, discrimination, learn_generator
from model.baselines.doml import (
    Doml,
    DomlSettings,
    Metric,
    MetricSettings,
    Rotation,
    metric_loss,
    nearest,
)
from model.baselines.factor_system import DomainFactors
from model.baselines.mfem import MappingSettings, learn_map
from model.baselines.transfer import Merge, MergeSettings
from model.data.training_data import TrainingData
from model.errors import TrainingError
from model.networks.perceptron import Perceptron
from tests.model.baselines.systems_under_test import SYSTEMS
from tests.model.dataset_making import dataset_of, random_dataset

DATA = TrainingData.of(random_dataset(np.random.default_rng(8), users=400, items=30))
WIDTH = 6


def _planted(generator: np.random.Generator, matrix: Floats) -> dict[str, DomainFactors]:
    """Make vectors such that those of shared users are mapped to each other by a matrix."""
    first, second = DATA.domains
    drawn = [
        generator.standard_normal((len(each.training), WIDTH)).astype(np.float32)
        for each in DATA.domains
    ]
    drawn[1][DATA.shared[:, 1]] = drawn[0][DATA.shared[:, 0]] @ matrix
    return {
        domain.name: DomainFactors(
            users,
            generator.standard_normal((domain.items + 1, WIDTH)).astype(np.float32),
            generator.standard_normal(domain.items + 1).astype(np.float32),
        )
        for domain, users in zip((first, second), drawn, strict=True)
    }


def _orthogonal(generator: np.random.Generator) -> Floats:
    return np.linalg.qr(generator.standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)


def test_a_merge_takes_the_other_vector_of_shared_users_and_maps_it_for_the_rest() -> None:
    found = _planted(np.random.default_rng(1), _orthogonal(np.random.default_rng(2)))
    maps = (lambda vectors: 2 * vectors, lambda vectors: 3 * vectors)
    merge = Merge(DATA, found, 1, maps, MergeSettings())
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        merge.layer.weight.copy_(torch.randn(WIDTH, 2 * WIDTH, generator=generator))

    made = merge.domain_factors()

    weight = merge.layer.weight.detach().numpy()
    target, other = found["films"].users, found["books"].users
    partners = DATA.domains[1].other
    for user in (0, 5, 399):
        beside = other[partners[user]] if partners[user] >= 0 else 2 * target[user]
        expected = weight @ np.concatenate([target[user], beside])
        np.testing.assert_allclose(made.users[user], expected, rtol=1e-4, atol=1e-5)
    assert made.newcomers is not None
    expected = weight @ np.concatenate([3 * other[7], other[7]])
    np.testing.assert_allclose(made.newcomers[7], expected, rtol=1e-4, atol=1e-5)
    assert {partners[user] >= 0 for user in (0, 399)} == {True, False}


def test_a_merge_starts_as_the_target_domain_for_itself() -> None:
    found = _planted(np.random.default_rng(1), np.eye(WIDTH, dtype=np.float32))
    perceptron = Perceptron((WIDTH, 4, WIDTH), torch.Generator())

    made = Merge(DATA, found, 0, (perceptron, perceptron), MergeSettings()).domain_factors()

    np.testing.assert_allclose(made.users, found["books"].users, atol=1e-6)
    assert (made.items == found["books"].items).all()
    assert (made.bias == found["books"].bias).all()


@pytest.mark.parametrize("name", ["mfem", "cngan", "doml"])
def test_where_merging_ruins_everything_the_vectors_of_bprmf_are_kept(name: str) -> None:
    kind, settings = SYSTEMS[name].kind, SYSTEMS[name].settings
    values = settings.model_dump()
    values["merge"] |= {"learning_rate": 1e3, "layer_rate": 1e3}
    alone = Bprmf.fit(DATA, BprmfSettings(**values["factors"]), seed=1)

    merged = kind.fit(DATA, type(settings).model_validate(values), seed=1)

    for domain in DATA.domains:
        users = {each.name: np.full(20, -1) for each in DATA.domains}
        users[domain.name] = np.arange(20)
        expected = alone.scores(domain.name, [{}] * 20, users)
        np.testing.assert_allclose(
            merged.scores(domain.name, [{}] * 20, users), expected, rtol=1e-4, atol=1e-5
        )


def test_the_map_of_mfem_finds_a_planted_one_and_holds_for_users_it_has_not_seen() -> None:
    generator = np.random.default_rng(3)
    matrix = torch.from_numpy(_orthogonal(generator))
    sources = torch.from_numpy(0.3 * generator.standard_normal((300, WIDTH)).astype(np.float32))
    settings = MappingSettings(hidden=32, steps=800, learning_rate=0.01)

    learned = learn_map(sources[:250], (sources @ matrix)[:250], settings, (1,))

    wanted = (sources @ matrix)[250:]
    assert float((learned(sources[250:]) - wanted).square().mean()) < 0.02 * float(
        wanted.square().mean()
    )


def test_the_map_of_mfem_is_kept_while_it_holds_for_users_it_has_not_seen() -> None:
    """Of vectors that have nothing to do with each other it would learn the pairs by heart."""
    generator = torch.Generator().manual_seed(3)
    sources, targets = torch.randn(2, 60, WIDTH, generator=generator).unbind()
    settings = MappingSettings(hidden=64, steps=3000, learning_rate=2e-3, patience=1000)

    learned = learn_map(sources, targets, settings, (1,))

    assert float((learned(sources) - targets).square().mean()) > 0.7 * float(targets.var())


@pytest.mark.parametrize("shared", [0, 1])
def test_with_hardly_a_shared_user_everyone_is_mapped_to_zeros(shared: int) -> None:
    vectors = torch.randn(shared, WIDTH, generator=torch.Generator().manual_seed(1))

    learned = learn_map(vectors, vectors, MappingSettings(), (1,))

    assert (learned(torch.ones(3, WIDTH)) == 0).all()


def test_the_generator_makes_what_shared_users_have_in_the_other_domain() -> None:
    found = _planted(np.random.default_rng(5), _orthogonal(np.random.default_rng(6)) * 0.5)
    settings = GeneratorSettings(hidden=48, steps=500, learning_rate=5e-3)

    generator = learn_generator(DATA, found, 0, settings, (1,))

    shared = DATA.shared
    made = generator(torch.from_numpy(found["books"].users[shared[:, 0]])).numpy()
    true = found["films"].users[shared[:, 1]]
    mistaken = np.roll(true, 1, axis=0)
    assert ((made - true) ** 2).mean() < 0.2 * ((made - mistaken) ** 2).mean()


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_users_of_one_domain_teach_the_generator_through_the_discriminator_alone(
    weight: float,
) -> None:
    matrix = _orthogonal(np.random.default_rng(6))
    settings = GeneratorSettings(hidden=8, steps=20, adversarial_weight=weight)

    def generated(scale: float) -> torch.Tensor:
        found = _planted(np.random.default_rng(5), matrix)
        found["books"].users[DATA.domains[0].other < 0] *= scale
        made: torch.Tensor = learn_generator(DATA, found, 0, settings, (1,))(torch.ones(1, WIDTH))
        return made

    assert torch.equal(generated(1.0), generated(3.0)) == (weight == 0)


def test_the_discriminator_is_told_real_from_both_sorts_of_false_pairs() -> None:
    class First(Perceptron):
        def forward(self, vectors: torch.Tensor) -> torch.Tensor:
            return vectors[:, :1]

    judge = First((2, 2, 1), torch.Generator())
    real, mismatched, synthetic = (torch.tensor([[each, 9.0]]) for each in (2.0, -1.0, 0.5))

    found = float(discrimination(judge, real, mismatched, synthetic))

    chances = [1 / (1 + np.exp(-each)) for each in (2.0, -1.0, 0.5)]
    expected = -np.log(chances[0]) - np.log(1 - chances[1]) - np.log(1 - chances[2])
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_rotation_that_is_no_numbers_says_what_to_change() -> None:
    rotation = Rotation(WIDTH, torch.Generator().manual_seed(2))
    torch.nn.init.constant_(rotation.matrix, float("nan"))
    with pytest.raises(
        TrainingError, match=r"rotation is no longer finite; lower metric\.learning_rate"
    ):
        rotation.straighten()


def test_the_rotation_of_doml_finds_a_planted_one_and_stays_orthogonal() -> None:
    matrix = _orthogonal(np.random.default_rng(7))
    found = _planted(np.random.default_rng(8), matrix)
    rotation = Rotation(WIDTH, torch.Generator().manual_seed(2))
    metric = Metric(DATA, found, rotation, MetricSettings(neighbours=0, passes=50), (1,))

    for epoch in range(5):
        metric(epoch)

    learned = rotation.matrix.detach().numpy()
    np.testing.assert_allclose(learned @ learned.T, np.eye(WIDTH), atol=1e-5)
    np.testing.assert_allclose(learned, matrix, atol=0.1)
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(rotation.back(rotation(vectors)), vectors)


def test_the_metric_pulls_counterparts_and_pushes_those_who_are_too_near() -> None:
    mapped, counterparts = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])

    # The counterpart is 0.16 + 0.64 away, the two others 0 and 4.
    assert float(metric_loss(mapped, counterparts, near, 0.5)) == pytest.approx(0.8 + 1.3)
    assert float(metric_loss(mapped, counterparts, far, 0.5)) == pytest.approx(0.8)


def test_the_nearest_are_those_of_plain_loops_and_never_the_user() -> None:
    units = torch.nn.functional.normalize(
        torch.randn(50, 4, generator=torch.Generator().manual_seed(5))
    )
    users = torch.tensor([3, 49, 20])

    found = nearest(units, users, 5)

    for user, row in zip(users.tolist(), found.tolist(), strict=True):
        likeness = [(float(units[user] @ units[each]), each) for each in range(50) if each != user]
        assert row == [each for _, each in sorted(likeness, reverse=True)[:5]]
    assert nearest(units[:3], users[:1] * 0, 5).shape == (1, 2)


def test_a_user_folded_in_by_cmf_owes_nothing_to_rows_in_the_target_domain() -> None:
    # Were the joint vector looked at, ann and bob, alike in films, would differ by their books.
    films = [1, 2, 3, 1, 2, 3]
    books = {f"u{user:02d}": [1 + user % 4, 5 + user % 3, 1, 2, 3] for user in range(30)}
    data = TrainingData.of(
        dataset_of(
            {**books, "ann": [1, 1, 1, 1, 1, 1], "bob": [8, 8, 8, 8, 8, 8]},
            {**{user: [4, 5, 6, 4] for user in books}, "ann": films, "bob": films},
            items=(8, 6),
        )
    )
    settings = CmfSettings(width=4, epochs=20, batch_rows=16, fold_in_epochs=40)

    tensors = Cmf.fit(data, settings, seed=1).tensors()

    # Users stand in the order of their ids: ann, bob, u00, ...
    ann, bob, other = tensors["books.newcomers"][:3]
    joint = tensors["books.users"]
    assert np.linalg.norm(ann - bob) < 0.2 * np.linalg.norm(ann - other)
    assert np.linalg.norm(ann - bob) < 0.2 * np.linalg.norm(joint[0] - joint[1])


def test_a_user_folded_in_by_cmf_is_near_what_the_other_domain_says() -> None:
    """Those who see films 1 to 3 read books 5 to 8, so a film's number misleads among books."""
    books, films = [[5, 6, 7, 8, 5, 6], [1, 2, 3, 4, 1, 2]], [[1, 2, 3, 1, 2], [4, 5, 6, 4, 5]]
    users = [f"u{user:02d}" for user in range(40)]
    data = TrainingData.of(
        dataset_of(
            {user: books[place % 2] for place, user in enumerate(users)},
            {user: films[place % 2] for place, user in enumerate(users)},
            items=(8, 6),
        )
    )
    settings = CmfSettings(width=4, epochs=30, batch_rows=16, fold_in_epochs=40)

    tensors = Cmf.fit(data, settings, seed=1).tensors()

    for target, wanted in (("books", books), ("films", films)):
        scores = np.inner(tensors[f"{target}.newcomers"], tensors[f"{target}.items"])
        for place, found in enumerate(scores):
            own, others = (found[wanted[(place + turn) % 2]].mean() for turn in (0, 1))
            assert own > others, (target, place)


def test_the_start_of_doml_which_may_be_the_best_has_a_map() -> None:
    """Before any merging is learned, a newcomer is the other vector, turned by the map."""

    def distance(passes: int) -> float:
        values = SYSTEMS["doml"].settings.model_dump()
        values["metric"] |= {"passes": passes, "learning_rate": 0.02, "margin": 0.0}
        values["merge"] |= {"epochs": 0}
        tensors = Doml.fit(DATA, DomlSettings.model_validate(values), seed=1).tensors()
        first, second = DATA.shared.T
        turned, wanted = tensors["films.newcomers"][first], tensors["films.users"][second]
        pairs = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (turned, wanted)]
        return float(((pairs[0] - pairs[1]) ** 2).sum(axis=1).mean())

    assert distance(300) < 0.75 * distance(1)
