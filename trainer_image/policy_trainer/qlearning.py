"""Learning Q from logged decisions: double DQN with the conservative term, in torch.

The loss is that of double DQN (van Hasselt et al. 2016) plus alpha times log-sum-exp of all
actions' Q minus the logged action's Q: CQL(H) of Kumar et al. 2020 for discrete actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from policy_api.v1alpha1.recipes.cql import CQL
from policy_models.features import Encoder
from policy_models.q_policy import ACTIVATION, QPolicy
from torch import nn

from policy_trainer.decisions import Decisions
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.networks import network


@dataclass(frozen=True)
class Batch:
    """Decisions of one step."""

    states: torch.Tensor  # (rows, width)
    actions: torch.Tensor  # (rows,) places in the action space
    rewards: torch.Tensor
    following: torch.Tensor  # (rows, width)
    done: torch.Tensor  # 1 where the episode ended


class Batches:
    """Decisions of each step, drawn by the seed and the step's number alone."""

    def __init__(self, known: Decisions, block: CQL, seed: int, device: str) -> None:
        self._columns = [
            torch.as_tensor(column, device=device)
            for column in (
                known.states,
                known.actions,
                known.rewards.astype(np.float32),
                known.following,
                known.done,
            )
        ]
        self._rows = len(known.actions)
        self._size = block.batch_size
        self._seed = seed

    def draw(self, step: int) -> Batch:
        """Return the decisions of a step."""
        drawn = np.random.default_rng([self._seed, step]).integers(self._rows, size=self._size)
        rows = torch.from_numpy(drawn).to(self._columns[0].device)
        return Batch(*(column[rows] for column in self._columns))


class Learner:
    """A Q network, its target, and Adam.

    Args:
        block: The recipe's settings.
        encoder: Its inputs.
        space: Its outputs.
        seed: Of the weights.
        device: Where it is.
        before: An earlier version to go on from: shared inputs and outputs keep their weights.
    """

    def __init__(
        self,
        block: CQL,
        encoder: Encoder,
        space: Sequence[str],
        *,
        seed: int,
        device: str,
        before: QPolicy | None,
    ) -> None:
        torch.manual_seed(seed)
        sizes = [encoder.width, *block.hidden, len(space)]
        self.network = network(sizes, ACTIVATION)
        if before is not None:
            _take_over(self.network, encoder, before)
        self.network.to(device)
        self._target = network(sizes, ACTIVATION).to(device)
        self.update_target()
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=block.learning_rate)
        self._gamma, self._rate = block.gamma, block.learning_rate

    def learn(self, batch: Batch, alpha: float, share: float = 1.0) -> dict[str, torch.Tensor]:
        """Take one step of Adam; return the losses before it.

        Args:
            batch: Decisions.
            alpha: Weight of the conservative term.
            share: Of the learning rate.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * share
        values = self.network(batch.states)
        taken = values.gather(1, batch.actions[:, None]).squeeze(1)
        with torch.no_grad():
            best = self.network(batch.following).argmax(dim=1, keepdim=True)
            later = self._target(batch.following).gather(1, best).squeeze(1)
            wanted = batch.rewards + self._gamma * (1 - batch.done) * later
        td_loss = nn.functional.smooth_l1_loss(taken, wanted)
        conservative = (values.logsumexp(dim=1) - taken).mean()
        loss = td_loss + alpha * conservative
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        losses = {"loss": loss, "td_loss": td_loss, "conservative": conservative}
        return {name: value.detach() for name, value in losses.items()}

    def update_target(self) -> None:
        """Copy the network to its target."""
        self._target.load_state_dict(self.network.state_dict())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "network": self.network.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self._target.load_state_dict(state["target"])
        self._optimizer.load_state_dict(state["optimizer"])


def _take_over(new: nn.Sequential, encoder: Encoder, before: QPolicy) -> None:
    """Copy an earlier version's weights; an input that it did not have starts without effect."""
    linear = [layer for layer in new if isinstance(layer, nn.Linear)]
    widths = [layer.out_features for layer in linear[:-1]]
    theirs = before.layers.hidden
    if widths != theirs:
        raise ConfigInvalidError(
            f"the base has hidden layers {theirs}, this training {widths}: set cql.hidden likewise",
            field="cql.hidden",
        )
    columns = {name: place for place, name in enumerate(encoder.dense_names())}
    known = [columns[name] for name in before.encoder.dense_names()]
    with torch.no_grad():
        for number, (layer, (weights, bias)) in enumerate(
            zip(linear, before.layers.linear, strict=True)
        ):
            rows = slice(0, len(bias))
            if number == 0:
                layer.weight.zero_()
                layer.weight[rows, known] = torch.from_numpy(weights)
            else:
                layer.weight[rows] = torch.from_numpy(weights)
            layer.bias[rows] = torch.from_numpy(bias)
