"""A running server takes an updated release up."""

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from recguru.v1 import recommender_pb2 as pb

from indexer.publish import latest
from indexer.release import Release
from model.bundle import Bundle
from tests.indexer.index_making import built_as
from tests.indexer.update_making import items, listed, updated
from tests.server.running import WAIT_S, Serving, recommend, serving

if TYPE_CHECKING:
    from indexer.change_files import Role

POLL_S = 0.05


async def test_an_updated_release_is_taken_up_while_calls_go_on_and_none_fails(
    releases: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(releases, tmp_path / "releases"))
    before = latest(root)
    stop = asyncio.Event()
    answers: list[pb.RecommendResponse] = []
    added = items(tmp_path / "add", {"item_id": "new", "like": ["f0009"]})
    gone = listed(tmp_path / "remove", ["f0000", "f0003"])
    ask_for = {
        name: recommend("films", {"films": history}, k=400, candidates=candidates)
        for name, history, candidates in (
            ("known", ["f0001", "f0002"], None),
            ("removed", ["f0000", "f0003"], None),
            ("new", ["new"], None),
            ("set", ["f0001"], "every-third"),
        )
    }

    async with serving(root, poll_s=POLL_S) as running:

        async def answered(name: str) -> pb.RecommendResponse:
            answer: pb.RecommendResponse = await running.stub.Recommend(
                ask_for[name], timeout=WAIT_S
            )
            return answer

        async def ask() -> None:
            while not stop.is_set():
                answers.append(await answered("known"))

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        old = {name: await answered(name) for name in ask_for}
        made = await asyncio.to_thread(updated, root, {"films": {"add": added, "remove": gone}})
        async with asyncio.timeout(WAIT_S):
            while (await answered("known")).version.release != made.folder.name:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        new = {name: await answered(name) for name in ask_for}
        stop.set()
        await asyncio.gather(*asking)

    versions = {answer.version.release for answer in answers}
    assert versions <= {before.name, made.folder.name}
    assert {answer.version.model for answer in new.values()} == {made.bundle}
    for answer in answers:
        ids = {item.item_id for item in answer.items}
        removed = answer.version.release == made.folder.name
        assert ({"f0000", "f0003"} & ids == set()) == removed
        assert ("new" in ids) == removed
    assert old["removed"].basis == pb.BASIS_PERSONALIZED
    assert new["removed"].basis == pb.BASIS_POPULARITY
    assert new["removed"].unknown_history_items == 2
    assert (old["new"].basis, new["new"].basis) == (pb.BASIS_POPULARITY, pb.BASIS_PERSONALIZED)
    sets = [{item.item_id for item in each["set"].items} for each in (old, new)]
    assert sets[0] - sets[1] == {"f0003", "f0000"}
    assert sets[1] <= sets[0]


async def answered_ids(running: Serving, version: str) -> set[str]:
    """Ask for a few films and for all, for many users, once a version is served."""
    there = [f"f{place:04d}" for place in range(60)]
    async with asyncio.timeout(WAIT_S):
        while True:
            asked = [
                running.stub.Recommend(recommend("films", {"films": [item]}, k=k), timeout=WAIT_S)
                for k in (10, 400)
                for item in there
            ]
            answers: list[pb.RecommendResponse] = [await each for each in asked]
            if {answer.version.release for answer in answers} == {version}:
                return {item.item_id for answer in answers for item in answer.items}
            await asyncio.sleep(POLL_S)


async def test_a_removed_id_stays_away_over_updates_compaction_reload_and_restart(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    root = tmp_path / "releases"
    bundle = Bundle.read(tiny_bundle)
    built = built_as(bundle, root, kind="hnsw", recall=0.5, hnsw={"effort": 64})
    gone: set[str] = set()
    there = set(built.bundle.domain("films").vocabulary.ids)
    steps = ((1, "appended"), (1, "appended"), (0, "rebuilt"), (1, "appended"))

    async with serving(root, poll_s=POLL_S) as running:
        assert await answered_ids(running, latest(root).name) == there
        for step, (share, how) in enumerate(steps):
            removed = {f"f{place:04d}" for place in range(step, 60, 7)}
            new = f"new-{step}"
            added = {"item_id": new, "like": sorted(removed)[:1]}
            files: dict[Role, Path] = {
                "add": items(tmp_path / "add", added),
                "remove": listed(tmp_path / "remove", sorted(removed)),
            }
            gone |= removed
            there = (there | {new}) - removed
            made = await asyncio.to_thread(
                updated, root, {"films": files}, recall=0.5, rebuild_share=share
            )
            assert made.domains["films"].index == how
            assert await answered_ids(running, made.folder.name) == there
    async with serving(root) as restarted:
        found = await answered_ids(restarted, made.folder.name)

    assert found == there
    assert not found & gone
    index = Release.read(latest(root)).indexes["films"]
    assert set(index.vocabulary.ids) == there
