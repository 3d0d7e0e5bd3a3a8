"""Filters as a command line gives them."""

from collections.abc import Sequence

from client.messages import Filter
from model.errors import InvalidInputError

_NOT = "!"


def parse_filters(given: Sequence[str]) -> list[Filter]:
    """Read filters spelled `ATTRIBUTE=VALUE|VALUE...`, or with `!=` for items without the values.

    Raises:
        InvalidInputError: If a text is spelled otherwise or holds an empty value.
    """
    return [_filter(text) for text in given]


def _filter(text: str) -> Filter:
    before, _, after = text.partition("=")
    attribute, values = before.removesuffix(_NOT), after.split("|")
    if not (attribute and all(values)):
        raise InvalidInputError(
            f"filter {text!r} must be ATTRIBUTE=VALUE|VALUE... or ATTRIBUTE!=VALUE|VALUE... "
            "without empty values"
        )
    return Filter(attribute=attribute, values=values, negate=before.endswith(_NOT))
