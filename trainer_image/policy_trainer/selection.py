"""Which of the networks that a training tries is kept: the one whose policy is worth most."""

import copy
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_api.v1alpha1.recipes.cql import CQL
from policy_models.features import Encoder
from policy_models.q_policy import ACTIVATION, QPolicy

from policy_trainer import worth
from policy_trainer.decisions import Decisions
from policy_trainer.networks import arrays
from policy_trainer.worth import Judge

TRIES = 10  # of each alpha's training, evenly, the last one at its end

log = logging.getLogger(__name__)


def greedy(policy: QPolicy, some: Decisions) -> Any:
    """Return the probabilities of the policy's actions, (rows, actions): 1 for the best Q."""
    return worth.always(policy.values(some.states).argmax(axis=1), len(policy.actions))


@dataclass
class Selection:
    """Tries networks on `validation`, and remembers the best.

    What a network is worth when it is chosen among others on the same decisions is too good to be
    true. So the networks of one alpha are compared only where `test` says afterwards what the
    chosen one is worth; without, the last one is taken.
    """

    encoder: Encoder
    actions: Sequence[str]
    every: int
    """Steps between two tries."""
    last: int
    """Steps of one alpha."""
    held_out: Decisions | None
    judge: Judge | None
    best: dict[str, Any] = field(default_factory=dict)
    """Of the best: its worth, alpha, step, and network (a state_dict)."""

    @classmethod
    def of(
        cls, block: CQL, parts: Mapping[str, Decisions], encoder: Encoder, actions: Sequence[str]
    ) -> "Selection":
        """Return a selection without candidates."""
        held_out = parts.get("validation")
        every = max(1, math.ceil(block.max_steps / TRIES)) if "test" in parts else block.max_steps
        judge = None
        if held_out is not None and (every < block.max_steps or len(block.alphas) > 1):
            judge = Judge(parts["train"], held_out, len(actions), block.success_reward)
        return cls(encoder, actions, every, block.max_steps, held_out, judge)

    def see(self, network: Mapping[str, Any], alpha: float, step: int) -> None:
        """Try a network after so many steps of its alpha, if it is time."""
        if step == self.last or (self.judge is not None and step % self.every == 0):
            self.enter(network, alpha, step)

    def enter(self, network: Mapping[str, Any], alpha: float, step: int) -> None:
        """Try a network; of equals the later one is kept."""
        found = self._worth(network, alpha)
        if not self.best or found >= self.best["worth"]:
            kept = copy.deepcopy(dict(network))
            self.best = {"worth": found, "alpha": alpha, "step": step, "network": kept}

    def _worth(self, network: Mapping[str, Any], alpha: float) -> float:
        if self.judge is None or self.held_out is None:
            return -math.inf
        policy = QPolicy(self.encoder, tuple(self.actions), arrays(network, ACTIVATION))
        made = self.judge.judge(greedy(policy, self.held_out), f"alpha {alpha:g}")
        return -math.inf if made.rewards is None else float(made.rewards.mean())

    def policy(self) -> QPolicy:
        """Return the best."""
        alpha, step, found = (self.best[name] for name in ("alpha", "step", "worth"))
        told = f": mean reward {found:.4g} on validation" if math.isfinite(found) else ""
        log.info("kept alpha %g, step %d of %d%s", alpha, step, self.last, told)
        return QPolicy(self.encoder, tuple(self.actions), arrays(self.best["network"], ACTIVATION))
