"""The setting `gpus` comes from a server's settings to its indexes."""

from pathlib import Path

import pytest

from server.check import check
from tests.server.running import serving, settings_of

SAID = "gpus=shards has no effect: the index is searched on the CPU"


async def test_a_server_on_a_cpu_says_that_it_has_no_effect(
    releases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(releases, gpus="shards"):
        assert SAID in caplog.messages


def test_a_check_says_the_same(releases: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = list(check(settings_of(releases, gpus="shards"), releases))
    assert any(line.startswith("LATEST: ") for line in lines)
    assert SAID in caplog.messages
