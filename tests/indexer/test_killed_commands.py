"""Commands killed at any moment leave the old release or the new one, and the next sweeps up."""

from pathlib import Path

import numpy as np
import pytest

from indexer.publish import activate, latest, prune, versions, workspace
from tests.indexer.command_making import Material, answers, leftovers, write_material
from tests.indexer.killed_commands import Commands, commands

FEW, MANY = 6, 50
MORE = 4
"""Times as many kills at most, where a command that is quicker than at first is killed too late."""
BEFORE = 5
"""One kill in so many may come before any work is done."""
KILLS = pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


def killed(running: Commands, root: Path, arguments: list[str], kills: int) -> None:
    """Kill a command at random moments; see the old release or the new one each time.

    Args:
        running: What runs it.
        root: Its release root, with one release in it.
        arguments: Those of the command.
        kills: How many times at least; more often until a third of so many came while it worked.
    """
    first = latest(root)
    before = answers(first)
    lasts_s = running.run(arguments, root)
    after = answers(latest(root))
    assert after != before
    activate(root, first.name)
    generator = np.random.default_rng(kills)
    half_done = 0
    for number, after_s in enumerate(generator.uniform(0, 1.2 * lasts_s, MORE * kills).tolist()):
        if number >= kills and half_done > kills / 3:
            break
        there = versions(root)
        ended = running.kill(arguments, after_s, None if number % BEFORE == 0 else root)
        served = latest(root)
        found = answers(served)
        assert found == (before if served == first else after)
        assert served == first or served.name not in there
        assert served != first or not ended
        for version in set(versions(root)) - set(there):
            assert answers(root / version) == after  # it is whole, if `LATEST` names it or not
        half_done += bool(leftovers(root))
        with workspace(root) as work:
            assert leftovers(root) == [work]
        activate(root, first.name)
        prune(root, keep=1)
    assert half_done > kills / 3, "many kills should have hit a command at work"
    running.run(arguments, root)
    assert leftovers(root) == []
    assert answers(latest(root)) == after


@pytest.fixture
def material(tmp_path: Path) -> Material:
    return write_material(tmp_path)


@KILLS
def test_a_build_killed_at_any_moment_leaves_the_old_release_or_the_new(
    material: Material, tmp_path: Path, kills: int
) -> None:
    root = tmp_path / "releases"
    with commands() as running:
        running.run(material.build(root), root)
        killed(running, root, material.build(root, bundle="new"), kills)


@KILLS
def test_an_update_killed_at_any_moment_leaves_the_old_release_or_the_new(
    material: Material, tmp_path: Path, kills: int
) -> None:
    root = tmp_path / "releases"
    with commands() as running:
        running.run(material.build(root), root)
        killed(running, root, material.update(root, latest(root).name), kills)
