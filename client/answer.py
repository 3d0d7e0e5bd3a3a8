"""The answer of `recguru recommend`, for people and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from client.messages import Question, Recommendation
from model.data.dataset import Dataset

_SHOWN = 5
"""Last items of a history that are shown to people."""


class Titles:
    """What items are called, where a dataset knows."""

    def __init__(self, dataset: Dataset | None = None) -> None:
        self._dataset = dataset

    def of(self, domain: str, item_ids: Sequence[str]) -> list[str]:
        """Return the title of each item, an empty string where none is known."""
        known = () if self._dataset is None else self._dataset.domains
        vocabularies = [each.vocabulary for each in known if each.name == domain]
        if not vocabularies:
            return [""] * len(item_ids)
        rows = vocabularies[0].rows(item_ids).tolist()
        return [vocabularies[0].title(row) if row else "" for row in rows]


def as_json(question: Question, answer: Recommendation, titles: Titles) -> dict[str, Any]:
    """Return the answer, and the histories it was asked with, as JSON values."""
    names = titles.of(question.domain, [item.item_id for item in answer.items])
    return {
        "domain": question.domain,
        "basis": answer.basis.name,
        "version": asdict(answer.version),
        "items": [
            {"item_id": item.item_id, "score": item.score, "title": title}
            for item, title in zip(answer.items, names, strict=True)
        ],
        "unknown_history_items": answer.unknown_history_items,
        "histories": {
            name: [
                {"item_id": item_id, "title": title}
                for item_id, title in zip(ids, titles.of(name, ids), strict=True)
            ]
            for name, ids in question.histories.items()
        },
    }


def as_lines(question: Question, answer: Recommendation, titles: Titles) -> Iterator[str]:
    """Give the lines that a terminal shows: the end of each history, then the ranked items."""
    for name, ids in question.histories.items():
        last = ids[-_SHOWN:]
        yield f"history in {name}, {len(ids)} items" + (", the last:" if len(ids) > _SHOWN else ":")
        yield from _table(["-"] * len(last), last, titles.of(name, last))
    version = answer.version
    yield (
        f"recommended from {question.domain}, basis {answer.basis.name}, "
        f"release {version.release}, model {version.model[:12]}:"
    )
    ids = [item.item_id for item in answer.items]
    scores = [f"{item.score:.4f}" for item in answer.items]
    yield from _table(scores, ids, titles.of(question.domain, ids), numbered=True)
    if answer.unknown_history_items:
        yield f"the model does not know {answer.unknown_history_items} of the history items"


def _table(
    marks: Sequence[str], ids: Sequence[str], titles: Sequence[str], *, numbered: bool = False
) -> Iterator[str]:
    widths = [max(map(len, column), default=0) for column in (marks, ids)]
    for place, (mark, item_id, title) in enumerate(zip(marks, ids, titles, strict=True), start=1):
        number = f"{place:4d}" if numbered else ""
        yield f"{number}  {mark:>{widths[0]}}  {item_id:{widths[1]}}  {title}".rstrip()
