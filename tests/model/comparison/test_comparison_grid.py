"""Which settings are tried, and that every system can be made and set as its entry says."""

import itertools

import pytest

from model.comparison.grid import draw_trials
from model.comparison.registry import SYSTEMS
from model.comparison.settings import flattened, with_values
from model.comparison.systems import Entry, find
from model.errors import NotFoundError

SPACE = {"rate": [1, 2, 3], "depth": [1, 2]}
DEFAULTS = {"rate": 2, "depth": 1, "width": 8}


def test_the_defaults_come_first_and_every_combination_once() -> None:
    trials = draw_trials(SPACE, 100, defaults=DEFAULTS, system="any")

    assert trials[0] == {}
    tried = {(trial.get("rate", 2), trial.get("depth", 1)) for trial in trials}
    assert tried == set(itertools.product([1, 2, 3], [1, 2]))
    assert len(trials) == 6


def test_more_trials_begin_with_the_fewer() -> None:
    few = draw_trials(SPACE, 3, defaults=DEFAULTS, system="any")

    assert len(few) == 3
    assert draw_trials(SPACE, 5, defaults=DEFAULTS, system="any")[:3] == few


def test_a_space_that_no_list_could_hold_is_drawn_from() -> None:
    space = {f"setting {place}": list(range(10)) for place in range(30)}

    trials = draw_trials(space, 50, defaults={}, system="any")

    assert draw_trials(space, 20, defaults={}, system="any") == trials[:20]
    assert len({str(trial) for trial in trials}) == 50
    for key in space:
        assert len({trial[key] for trial in trials[1:]}) > 5


def test_two_systems_are_not_tried_in_one_order() -> None:
    orders = {
        str(draw_trials(SPACE, 6, defaults=DEFAULTS, system=name)) for name in ("a", "b", "c", "d")
    }
    assert len(orders) > 1


def test_a_system_without_a_space_is_tried_with_its_defaults_alone() -> None:
    assert draw_trials({}, 5, defaults=DEFAULTS, system="any") == [{}]


@pytest.mark.parametrize("entry", SYSTEMS.values(), ids=SYSTEMS)
def test_every_value_of_a_search_space_is_accepted(entry: Entry) -> None:
    defaults = entry.defaults()
    known = flattened(defaults.model_dump(mode="json"))

    for key, values in entry.space.items():
        assert key in known
        for value in values:
            changed = with_values(defaults, {key: value}, given_in=entry.name)
            assert flattened(changed.model_dump(mode="json"))[key] == value


@pytest.mark.parametrize("name", ["sasrec-strong", "bert4rec"])
def test_a_strong_sequence_model_has_room_time_and_patience_of_recguru(name: str) -> None:
    baseline = flattened(SYSTEMS[name].defaults().model_dump())
    ours = flattened(SYSTEMS["recguru"].defaults().model_dump())

    assert baseline["width"] == ours["network.width"]
    for key in ("least_steps", "validation_steps", "patience"):
        assert baseline[key] == ours[f"fine_tuning.{key}"]


def test_systems_come_in_the_order_asked_for_and_each_once() -> None:
    found = find(["co-occurrence", "popularity", "co-occurrence"], SYSTEMS)

    assert [entry.name for entry in found] == ["co-occurrence", "popularity"]


def test_an_unknown_system_is_refused_with_those_there_are() -> None:
    some = {name: SYSTEMS[name] for name in ("popularity", "co-occurrence")}
    message = r"^system 'magic' is unknown; there are popularity, co-occurrence, all and ablations$"
    with pytest.raises(NotFoundError, match=message):
        find(["magic"], some)


def test_ablations_are_asked_for_by_their_own_name() -> None:
    everything = [entry.name for entry in find(["all"], SYSTEMS)]
    ablations = [entry.name for entry in find(["ablations"], SYSTEMS)]
    assert "recguru" in everything
    assert "recguru-other" in ablations
    assert not set(everything) & set(ablations)
    assert set(everything) | set(ablations) == set(SYSTEMS)
