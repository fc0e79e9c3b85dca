"""A policy that takes the action of the highest Q: how it is kept, and what it says. Numpy alone.

`q_policy.json` has the feature schema, the action space and how it was learned, for readers;
`q_network.safetensors` the weights of the layers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from policy_models.actions import SEQUENCE
from policy_models.features import Encoder, Row
from policy_models.layers import Activation, Layers, Numbers

FILE, WEIGHTS = "q_policy.json", "q_network.safetensors"
ACTIVATION = Activation.RELU


@dataclass(frozen=True)
class QPolicy:
    """A feature schema, an action space, and a network of linear layers with ReLU between them."""

    encoder: Encoder
    actions: tuple[str, ...]
    layers: Layers

    def values(self, states: Numbers) -> Numbers:
        """Return the Q of every action: (rows, actions), from `encoder.dense`."""
        return self.layers.apply(states)

    def choose(self, states: Sequence[Row]) -> list[str]:
        """Return the action for each state."""
        best = self.values(self.encoder.dense(states)).argmax(axis=1)
        return [self.actions[number] for number in best]

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write it, with what is to be said about it."""
        self.layers.write(folder / WEIGHTS)
        kept = {
            **about,
            "state_features": [column.name for column in self.encoder.columns],
            "feature_schema": self.encoder.to_json(),
            "action_space": [_shown(action) for action in self.actions],
            "q_network": {"architecture": self.layers.hidden, "weights": WEIGHTS},
        }
        (folder / FILE).write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote."""
        kept = json.loads((folder / FILE).read_text())
        return cls.from_json(kept, Layers.read(folder / WEIGHTS, ACTIVATION))

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], layers: Layers) -> Self:
        """Return the policy that `q_policy.json` describes."""
        actions = ([a] if isinstance(a, str) else a for a in kept["action_space"])
        return cls(
            Encoder.from_json(kept["feature_schema"]), tuple(map(SEQUENCE.join, actions)), layers
        )


def _shown(action: str) -> str | list[str]:
    parts = action.split(SEQUENCE)
    return parts if len(parts) > 1 else action
