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
    for name, index in release.indexes.items():
        exact = index.kind == "flat"
        vectors = samples[name].held_out
        found = recall(index, vectors[: settings.probes] if exact else vectors, k=settings.k)
        wanted = 1 if exact else settings.recall
        if found < wanted:
            raise BadArtifactError(
                f"the {index.kind} index of {name} found {found:.2%} of what exact search finds, "
                f"wanted are {wanted:.2%}; not published"
            )
        advance(note=f"{name} tried")
