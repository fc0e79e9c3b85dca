"""A policy that takes the action of the highest Q: how it is kept, and what it says. Numpy alone.

`q_policy.json` has the feature schema, the action space and how it was learned, for readers;
`q_network.safetensors` the weights of the layers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from policy_trainer.data import Row
from policy_trainer.decisions import SEQUENCE
from policy_trainer.tabular import Encoder

FILE, WEIGHTS = "q_policy.json", "q_network.safetensors"

Numbers = Any  # numpy.ndarray


@dataclass(frozen=True)
class QPolicy:
    """A feature schema, an action space, and a network of linear layers with ReLU between them."""

    encoder: Encoder
    actions: tuple[str, ...]
    layers: tuple[tuple[Numbers, Numbers], ...]  # (out, in) and (out,) of each

    def values(self, states: Numbers) -> Numbers:
        """Return the Q of every action: (rows, actions), from `encoder.dense`."""
        found = states
        for number, (weights, bias) in enumerate(self.layers):
            found = (np.maximum(found, 0) if number else found) @ weights.T + bias
        return found

    def choose(self, states: Sequence[Row]) -> list[str]:
        """Return the action for each state."""
        best = self.values(self.encoder.dense(states)).argmax(axis=1)
        return [self.actions[number] for number in best]

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write it, with what is to be said about it."""
        from safetensors.numpy import save_file  # noqa: PLC0415 - with torch's imports

        tensors = {}
        for number, (weights, bias) in enumerate(self.layers):
            tensors[f"{number}.weight"] = np.ascontiguousarray(weights)
            tensors[f"{number}.bias"] = np.ascontiguousarray(bias)
        save_file(tensors, folder / WEIGHTS)
        hidden = [len(bias) for _, bias in self.layers[:-1]]
        kept = {
            **about,
            "state_features": [column.name for column in self.encoder.columns],
            "feature_schema": self.encoder.to_json(),
            "action_space": [_shown(action) for action in self.actions],
            "q_network": {"architecture": hidden, "weights": WEIGHTS},
        }
        (folder / FILE).write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote."""
        from safetensors.numpy import load_file  # noqa: PLC0415 - see write

        kept = json.loads((folder / FILE).read_text())
        tensors = load_file(folder / kept["q_network"]["weights"])
        count = len(kept["q_network"]["architecture"]) + 1
        return cls(
            Encoder.from_json(kept["feature_schema"]),
            tuple(SEQUENCE.join([a] if isinstance(a, str) else a) for a in kept["action_space"]),
            tuple((tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in range(count)),
        )


def _shown(action: str) -> str | list[str]:
    parts = action.split(SEQUENCE)
    return parts if len(parts) > 1 else action
