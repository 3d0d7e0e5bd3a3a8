"""The names of the weights that hold a row for each item of a domain, without the networks."""


def module_key(domain: str) -> str:
    """Spell a domain's name so that it cannot collide with an attribute of a module."""
    return f"of_{domain}"


def item_table_name(domain: str) -> str:
    """Name the weight by which a domain's recommender reads items.

    Where they are scored by the same vectors, a bundle keeps it as the domain's `item_table`.
    """
    return f"recommenders.{module_key(domain)}.embedding.items.weight"


def encoder_table_name(domain: str) -> str:
    """Name the weight by which the encoder reads a domain's items."""
    return f"gur_encoder.embeddings.{module_key(domain)}.items.weight"
