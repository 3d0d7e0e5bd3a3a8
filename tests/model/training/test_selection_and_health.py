"""Training ends when nothing better comes, and stops itself when it goes wrong."""

import pytest
import torch

from model.errors import TrainingError
from model.training.health import LONGEST_READINGS, Health, check_weights
from model.training.selection import Selection


def scripted(figures: list[float], patience: int = 2) -> tuple[Selection, torch.nn.Linear]:
    network = torch.nn.Linear(1, 1, bias=False)
    readings = iter(figures)
    return Selection(network, lambda: next(readings), interval=5, patience=patience), network


def test_the_best_weights_come_back_after_patience_runs_out() -> None:
    selection, network = scripted([0.1, 0.3, 0.2, 0.3])
    seen = []
    for weight in (1.0, 2.0, 3.0, 4.0):
        torch.nn.init.constant_(network.weight, weight)
        selection.look()
        seen.append(selection.is_over)
    assert seen == [False, False, False, True]  # equal is not better
    assert selection.finish() == {"validation_ndcg@10": 0.3}
    assert network.weight.item() == 2.0


def test_a_selection_goes_on_from_its_state() -> None:
    first, network = scripted([0.3, 0.2])
    torch.nn.init.constant_(network.weight, 7.0)
    first.look()
    torch.nn.init.constant_(network.weight, 8.0)
    first.look()
    second, other = scripted([0.1])
    second.restore(first.state())
    second.look()
    assert second.is_over
    assert second.finish() == {"validation_ndcg@10": 0.3}
    assert other.weight.item() == 7.0


def test_validation_comes_at_its_interval() -> None:
    selection, _ = scripted([])
    assert [step for step in range(1, 12) if selection.is_due(step)] == [5, 10]


def test_without_a_validation_the_weights_stay() -> None:
    selection, network = scripted([])
    torch.nn.init.constant_(network.weight, 3.0)
    assert selection.finish() == {}
    assert network.weight.item() == 3.0


def test_where_there_is_nothing_to_ask_training_goes_on_to_its_end() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    selection = Selection(network, None, interval=5, patience=1)
    for weight in (1.0, 2.0, 3.0):
        torch.nn.init.constant_(network.weight, weight)
        assert selection.look() == {}
        assert not selection.is_over
    assert selection.finish() == {}
    assert network.weight.item() == 3.0


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_names_phase_step_and_figure(figure: float) -> None:
    with pytest.raises(
        TrainingError, match=r"adversarial step 30: wasserstein is (nan|inf); lower"
    ):
        Health().check("adversarial", 30, {"wasserstein": figure})


def test_a_critic_may_start_flat_but_not_stay_so() -> None:
    health = Health()
    for step in range(LONGEST_READINGS - 1):
        health.check("adversarial", step, {"gradient_penalty": 0.99})
    health.check("adversarial", 50, {"gradient_penalty": 0.2})
    for step in range(LONGEST_READINGS - 1):
        health.check("adversarial", step, {"gradient_penalty": 0.99})
    with pytest.raises(TrainingError, match="the critic collapsed, its slope has stayed near zero"):
        health.check("adversarial", 99, {"gradient_penalty": 0.99})


def test_a_critic_that_stays_steep_is_told_to_hold_it_and_not_to_hurry() -> None:
    health = Health()
    for step in range(LONGEST_READINGS - 1):
        health.check("adversarial", step, {"gradient_penalty": 89.0})
    with pytest.raises(TrainingError, match=r"has stayed above 2, .* or lower critic_rate"):
        health.check("adversarial", 99, {"gradient_penalty": 89.0})


def test_weights_that_are_no_numbers_are_not_written() -> None:
    network = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(network.bias, float("nan"))
    with pytest.raises(TrainingError, match="bias is no longer finite"):
        check_weights(network)
