"""The picture of a training shows what was trained, and nothing else."""

from pathlib import Path

import pytest

from model.training.plots import Curve, plot_training, training_panels
from model.training.record import read_metrics


def curves_by_title(run: Path) -> dict[str, dict[str, Curve]]:
    panels = training_panels(read_metrics(run))
    return {panel.title: {curve.name: curve for curve in panel.curves} for panel in panels}


def written(run: Path, *lines: str) -> Path:
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return run


def test_a_joint_training_is_drawn_without_the_phases_it_has_not(tmp_path: Path) -> None:
    run = written(
        tmp_path / "run",
        '{"phase": "pre-training", "step": 0, "shared_rank": 102.0}',
        '{"phase": "fine-tuning", "step": 10, "loss/films": 9.0, "loss/books": 8.0,'
        ' "cold/films": 8.5, "shared": 2.0, "critic_loss": -1.0, "wasserstein": 1.5,'
        ' "reconstruction/films": 5.5}',
        '{"phase": "fine-tuning", "step": 20, "loss/films": 7.0, "loss/books": 6.0,'
        ' "cold/films": 6.5, "validation_ndcg@10": 0.05}',
        '{"phase": "fine-tuning", "step": 30, "validation_ndcg@10": 0.07}',
        '{"phase": "fine-tuning", "step": 40, "validation_ndcg@10": 0.07}',
        '{"phase": "fine-tuning", "step": 40, "domain_accuracy": 0.6, "shared_rank": 1.0}',
        '{"phase": "bridging", "step": 10, "loss/films": 8.25, "loss/books": 8.75}',
        '{"phase": "bridging", "step": 25, "kept_log_likelihood": -8.5}',
        '{"phase": "bridging", "step": 50, "kept_log_likelihood": -9.5}',
    )
    assert curves_by_title(run) == {
        "Critic, all phases that train it": {
            "critic_loss": Curve("critic_loss", [10], [-1.0]),
            "wasserstein": Curve("wasserstein", [10], [1.5]),
        },
        "Reconstruction": {"reconstruction/films": Curve("reconstruction/films", [10], [5.5])},
        "Fine-tuning: next items, cold starts": {
            "loss/books": Curve("loss/books", [10, 20], [8.0, 6.0]),
            "loss/films": Curve("loss/films", [10, 20], [9.0, 7.0]),
            "cold/films": Curve("cold/films", [10, 20], [8.5, 6.5]),
        },
        "Fine-tuning: shared users' GURs": {"shared": Curve("shared", [10], [2.0])},
        "Fine-tuning: validation": {
            "validation_ndcg@10": Curve("validation_ndcg@10", [20, 30, 40], [0.05, 0.07, 0.07], 30)
        },
        "Bridges: latest rows of shared users": {
            "loss/books": Curve("loss/books", [10], [8.75]),
            "loss/films": Curve("loss/films", [10], [8.25]),
            "-kept_log_likelihood": Curve("-kept_log_likelihood", [25, 50], [8.5, 9.5], 25),
        },
    }
    picture = plot_training(run)
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_phases_of_one_domain_each_are_told_apart_and_phases_that_follow_are_joined(
    tmp_path: Path,
) -> None:
    run = written(
        tmp_path / "run",
        '{"phase": "pre-training", "step": 30, "reconstruction/films": 5.0}',
        '{"phase": "adversarial", "step": 10, "reconstruction/films": 4.0, "critic_loss": -2.0}',
        '{"phase": "fine-tuning/films", "step": 5, "loss": 0.7, "validation_ndcg@10": 0.01}',
        '{"phase": "fine-tuning/books", "step": 5, "loss": 0.6, "validation_ndcg@10": 0.02}',
    )
    assert curves_by_title(run) == {
        "Critic, all phases that train it": {"critic_loss": Curve("critic_loss", [10], [-2.0])},
        "Reconstruction": {
            "reconstruction/films": Curve("reconstruction/films", [30, 40], [5.0, 4.0])
        },
        "Fine-tuning: next items, cold starts": {
            "loss/films": Curve("loss/films", [5], [0.7]),
            "loss/books": Curve("loss/books", [5], [0.6]),
        },
        "Fine-tuning: validation": {
            "validation_ndcg@10/films": Curve("validation_ndcg@10/films", [5], [0.01], 5),
            "validation_ndcg@10/books": Curve("validation_ndcg@10/books", [5], [0.02], 5),
        },
    }
    turning = {panel.title: panel.turning for panel in training_panels(read_metrics(run))}
    assert turning == {**dict.fromkeys(turning), "Reconstruction": 30}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("critic_loss", "critic loss"),
        ("loss/films", "films"),
        ("cold/films", "films, cold starts"),
        ("validation_ndcg@10", "both domains"),
        ("validation_ndcg@10/books", "books"),
        ("-kept_log_likelihood", "users kept back"),
    ],
)
def test_legends_are_in_words(name: str, label: str) -> None:
    assert Curve(name, [], []).label == label


def test_where_nothing_was_trained_there_is_no_picture(tmp_path: Path) -> None:
    assert plot_training(written(tmp_path / "run")) is None
