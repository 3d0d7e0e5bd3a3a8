"""A user's histories: as a command line gives them, as a dataset knows them, as they are sent."""

from collections.abc import Sequence
from dataclasses import replace

from client.messages import Question
from model.data.dataset import Dataset, DomainData
from model.errors import InvalidInputError, NotFoundError


def parse_histories(given: Sequence[str]) -> dict[str, list[str]]:
    """Read histories spelled `DOMAIN=ID,ID,...`, oldest first; a domain given again goes on.

    Raises:
        InvalidInputError: If a text is spelled otherwise or holds an empty id.
    """
    histories: dict[str, list[str]] = {}
    for text in given:
        domain, _, ids = text.partition("=")
        found = ids.split(",")
        if not (domain and all(found)):
            raise InvalidInputError(f"history {text!r} must be DOMAIN=ID,ID,... without empty ids")
        histories.setdefault(domain, []).extend(found)
    return histories


def known_histories(dataset: Dataset, user_id: str) -> dict[str, list[str]]:
    """Return all that a dataset knows of a user, held-out items included, by domain.

    Raises:
        NotFoundError: If no domain knows the user.
    """
    histories = {domain.name: _known(domain, user_id) for domain in dataset.domains}
    if not any(histories.values()):
        raise NotFoundError(f"user {user_id!r} is in no domain of the dataset")
    return {name: ids for name, ids in histories.items() if ids}


def shortened(question: Question, *, most: int) -> Question:
    """Cut histories to what the model reads, so that no user's are over the server's limit.

    The older items of the target domain are excluded by name where the history is to be kept out
    of the answer.

    Args:
        question: Its histories hold only items that the model knows.
        most: Items of a history that the model reads, at least 1.
    """
    histories = {name: ids[-most:] for name, ids in question.histories.items()}
    older: Sequence[str] = ()
    if question.exclude_history:
        older = question.histories.get(question.domain, ())[:-most]
    excluded = [*question.exclude_item_ids, *dict.fromkeys(older)]
    return replace(question, histories=histories, exclude_item_ids=excluded)


def _known(domain: DomainData, user_id: str) -> list[str]:
    for place, name in enumerate(domain.users):
        if name == user_id:
            rows = domain.sequences[place]
            return [domain.vocabulary.item_id(row) for row in rows.tolist()]
    return []
