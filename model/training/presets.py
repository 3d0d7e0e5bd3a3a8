"""Settings that belong together, by name; file, environment and flags go on top of them."""

from collections.abc import Mapping
from typing import Any

PAPER: Mapping[str, Any] = {
    "network": {"memory": "own"},
    "pre_training": {"item_start": "random", "negatives": 20},
    "adversarial": {"negatives": 20, "steps": 1000},
    "fine_tuning": {"loss": "bpr", "negatives": 20, "beta_2": 0.9},
}
"""What sections 4.2 and 6.1 and figure 2 publish; where they are silent, what makes it train."""

RECGURU: Mapping[str, Any] = {
    "network": {
        "width": 128,
        "layers": 2,
        "feed_forward": 256,
        "max_history": 50,
        "recent": 50,
        "dropout": 0.3,
        "encoder_dropout": 0.0,
        "scaled_input": True,
        "neighbours": 10,
        "memory": "cold",
        "bridge_share": 0.7,
    },
    "pre_training": {"epochs": 0, "item_start": "joint"},
    "adversarial": {
        "steps": 0,
        "batch_users": 128,
        "critic_rate": 1e-3,
        "critic_steps": 5,
        "whitened": True,
    },
    "fine_tuning": {
        "joint": True,
        "item_start": "neighbours",
        "epochs": 8,
        "least_steps": 2100,
        "batch_users": 128,
        "learning_rate": 1e-3,
        "cold_weight": 0.25,
        "cold_rows": 1,
        "shared_weight": 0.5,
        "shared_loss": "contrastive",
        "shared_users": 32,
        "adversarial_weight": 1.0,
    },
}
"""What validated best on two pairs of domains; `docs/research-log.md` has what was tried."""

PRESETS: Mapping[str, Mapping[str, Any]] = {"recguru": RECGURU, "paper": PAPER}
