"""The finished release answers queries before anybody else may ask it."""

from collections.abc import Mapping

from indexer.recall import recall
from indexer.release import Release
from indexer.sample import Sample
from indexer.spec import IndexSettings
from model.console import Advance
from model.errors import BadArtifactError


def try_out(
    release: Release, samples: Mapping[str, Sample], settings: IndexSettings, advance: Advance
) -> None:
    """Ask the finished indexes, and compare with exact search what they find.

    Raises:
        BadArtifactError: If one finds too little.
    """
    for problem in shortfalls(release, samples, settings, advance).values():
        raise BadArtifactError(f"{problem}; not published")


def shortfalls(
    release: Release, samples: Mapping[str, Sample], settings: IndexSettings, advance: Advance
) -> dict[str, str]:
    """Ask the indexes of the domains that there are samples of; say of those that find too little.

    Returns:
        What each of them found and should have found, by domain.
    """
    problems = {}
    for name, sample in samples.items():
        index, vectors = release.indexes[name], sample.held_out
        exact = index.kind == "flat"
        found = recall(index, vectors[: settings.check_queries] if exact else vectors, k=settings.k)
        wanted = 1 if exact else settings.recall
        if found < wanted:
            problems[name] = (
                f"the {index.kind} index of {name} found {found:.2%} of what exact search finds, "
                f"wanted are {wanted:.2%}"
            )
        advance(note=f"{name} tried")
    return problems
