"""What is known of a user whom an answer is for."""

import enum


class Basis(enum.Enum):
    """What an answer rests on."""

    PERSONALIZED = "personalized"
    """The history in the target domain, and in the other where there is one."""
    CROSS_DOMAIN = "cross-domain"
    """The history in another domain alone."""
    POPULARITY = "popularity"
    """Nothing that is known of the user."""
