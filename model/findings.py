"""What an examination finds, thing by thing, each with its fix."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    value: str
    fix: str = ""
    """What to do about it, in one line; empty where nothing is broken."""

    @property
    def broken(self) -> bool:
        """Whether something does not work until it is fixed."""
        return bool(self.fix)
