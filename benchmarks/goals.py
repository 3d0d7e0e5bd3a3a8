"""What was aimed at beside what was found."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, and what it should be."""

    name: str
    """Ends in its unit."""
    found: float
    bound: float
    kind: Literal["at most", "at least", "exactly"]

    @property
    def met(self) -> bool:
        """Whether the figure is what it should be."""
        if self.kind == "exactly":
            return self.found == self.bound
        return self.found <= self.bound if self.kind == "at most" else self.found >= self.bound


def report(goals: Sequence[Goal], *, as_json: bool) -> int:
    """Print the goals as a table, or as one line of JSON -> the exit code: 1 if one is missed."""
    if as_json:
        rows = [
            {
                "name": goal.name,
                "found": goal.found if math.isfinite(goal.found) else None,
                goal.kind.replace(" ", "_"): goal.bound,
                "met": goal.met,
            }
            for goal in goals
        ]
        print(json.dumps(rows))
    else:
        width = max(len(goal.name) for goal in goals)
        for goal in goals:
            verdict = "" if goal.met else "   MISSED"
            print(
                f"{goal.name:<{width}}  {goal.found:>10,.2f}   {goal.kind} {goal.bound:g}{verdict}"
            )
    return 0 if all(goal.met for goal in goals) else 1
