"""Phase four, beyond the paper: bridges learn what users new to a domain may prefer there.

Everything else is fixed by now. Of a shared user a bridge sees the preference vector in one domain,
as it is served to whoever has a history there, and learns to give one whose softmax over the items
of the other domain finds the user's latest training row in it. A tenth of the shared users are kept
from learning, and the bridges that foretell these best are the ones that serve.

Shapes: S shared users, B of them in a step, D width.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from model.arrays import Places
from model.inference import Inference
from model.losses import softmax_loss
from model.training.context import Context
from model.training.descent import Descent
from model.training.phase import Figures
from model.training.selection import Selection

_KEPT = 10  # one shared user in so many is kept from learning
_MOST_KEPT = 1000  # as many say it well enough, and fit into memory beside a large catalogue
_OUT_SPREAD = 0.01  # with cosine scoring nothing is learned from a vector of zeros
_LOOK = 25  # steps between two looks at them

KEPT = "kept_log_likelihood"
"""What bridges are selected by: of the latest rows of users kept from learning, nats a row."""


class Bridging:
    """Phase four, for both domains at once."""

    name = "bridging"
    moves_gurs = False

    def __init__(self, context: Context, phase: int) -> None:
        self._context = context
        self._settings = context.settings.bridging
        self._draws = context.draws(phase)
        self._shared = context.data.shared
        order = np.random.default_rng([context.settings.seed, phase]).permutation(len(self._shared))
        kept = min(-(-len(order) // _KEPT), _MOST_KEPT)
        self._kept, self._learned = np.split(order, [kept])
        self.steps = self._settings.steps if len(self._learned) else 0
        self._bridges = context.networks.serving.bridges
        self._descent = Descent(
            [self._bridges], betas=(0.9, 0.999), settings=context.settings, team=context.team
        )
        self.selection: Selection | None = Selection(
            self._bridges,
            lambda: context.team.told(self._log_likelihood),
            interval=_LOOK,
            patience=self._settings.patience,
            figure_name=KEPT,
        )
        self._preferences: list[Tensor] = []

    def begin(self) -> None:
        """Draw bridges. Those of before give nothing, and stay if nothing better is learned."""
        if not (self.steps and self.selection):
            return
        self.selection.look()
        self._draws.start_step(0)
        for domain in self._context.data.domains:
            bridge = self._context.networks.serving.bridge(domain.name)
            bridge.perceptron.draw(self._draws.torch, out_spread=_OUT_SPREAD)

    def step(self, step: int) -> Figures:
        """Foretell the latest rows of some shared users in each domain from the other."""
        settings = self._settings
        self._draws.start_step(step, self._context.networks)
        self._context.networks.eval()
        self._bridges.train()
        count = min(settings.batch_users, len(self._learned))
        users = self._draws.numpy.choice(self._learned, count, replace=False)
        figures = {
            f"loss/{domain.name}": self._context.team.shared_out(self._loss(place, users))
            for place, domain in enumerate(self._context.data.domains)
        }
        self._descent.step(torch.stack(list(figures.values())).sum(), settings.learning_rate)
        return figures

    def optimisers(self) -> Mapping[str, Optimizer]:
        """Return the bridges' optimiser."""
        return self._descent.optimisers("bridges")

    def _log_likelihood(self) -> float:
        self._context.networks.eval()
        self._draws.start_step(self.steps)  # of no step: every look draws the same negatives
        with torch.no_grad():
            losses = [float(self._loss(place, self._kept)) for place in (0, 1)]
        return -float(np.mean(losses))

    def _loss(self, place: int, users: Places) -> Tensor:
        """Return the mean loss over users, (B,) of the shared, in the domain at `place`."""
        context = self._context
        domain, serving = context.data.domains[place], context.networks.serving
        chosen = context.on_device(users)
        states = serving.bridge(domain.name)(self._preferred(1 - place)[chosen])
        targets = context.rows(domain, self._shared[users, place], longest=1)[:, 0]
        negatives = self._draws.negatives(domain, self._settings.negatives)
        items = context.catalogue(serving.recommender(domain.name).embedding).standing_still()
        return softmax_loss(context.sharpened(states), targets, items, negatives)

    def _preferred(self, place: int) -> Tensor:
        """Give the shared users' preference vectors in the domain at `place`, made once (S, D)."""
        if not self._preferences:
            self._preferences = [self._made(each) for each in (0, 1)]
        return self._preferences[place]

    def _made(self, place: int) -> Tensor:
        context, domain = self._context, self._context.data.domains[place]
        names = [each.name for each in context.data.domains]
        inference = Inference(
            context.networks.serving, names, context.settings.network, context.device
        )
        users = self._shared[:, place].tolist()
        histories = [{domain.name: domain.training[user]} for user in users]
        preferences = inference.prefer_all(domain.name, histories).preferences
        return torch.from_numpy(preferences).to(context.device)
