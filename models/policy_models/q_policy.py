"""A policy that takes the action of the highest Q: how it is kept, and what it says. Numpy alone.

`q_policy.json` has the feature schema, the action space, what the log says of each action, and how
it was learned; `q_network.safetensors` the weights of the layers.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from policy_models import reasons, states
from policy_models.actions import SEQUENCE, chosen, places
from policy_models.baselines import Record
from policy_models.calibration import Calibrator
from policy_models.decision import Decision, Option, Reason, Refusal, Request, greedy
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
    confidence: Calibrator | None = None
    """From an action's margin to how likely it succeeds; None: nobody has looked."""
    history: Mapping[str, Record] = field(default_factory=dict)
    """By action."""
    slow = False

    def values(self, states: Numbers) -> Numbers:
        """Return the Q of every action: (rows, actions), from `encoder.dense`."""
        return self.layers.apply(states)

    def choose(self, rows: Sequence[Row]) -> list[str]:
        """Return the action for each state."""
        best = self.values(self.encoder.dense(rows)).argmax(axis=1)
        return [self.actions[number] for number in best]

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Rank the actions by their Q."""
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision | Refusal:
        allowed = self._allowed(request)
        if isinstance(allowed, Refusal):
            return allowed
        state = request.state or {}
        dense = self.encoder.dense([state])
        values = self.values(dense)[0]
        sure = None if self.confidence is None else self.confidence.apply(margins(values[None])[0])
        effects = self._effects(dense, values) if request.explain else None
        ranking = greedy(
            Option(
                self.actions[place],
                float(values[place]),
                confidence=None if sure is None else float(sure[place]),
                reasons=() if effects is None else self._reasons(place, state, effects),
            )
            for place in allowed
        )
        return Decision(ranking, states.unseen(self.encoder, state))

    def choices(self, request: Request) -> tuple[str, ...] | Refusal:
        """Return the actions that a request allows, without asking the network."""
        return chosen(self._allowed(request), self.actions)

    def _allowed(self, request: Request) -> list[int] | Refusal:
        wrong = states.refusal(self.encoder, request.state)
        return places(request, self.actions) if wrong is None else wrong

    def _effects(self, dense: Numbers, values: Numbers) -> Numbers:
        """Return what each feature adds to each action's lead: (columns, actions).

        An action's lead is how much its Q is above the mean of all.
        """
        without = self.values(reasons.occluded(self.encoder, dense))
        return (values - values.mean()) - (without - without.mean(axis=1, keepdims=True))

    def _reasons(self, place: int, state: Row, effects: Numbers) -> tuple[Reason, ...]:
        action = self.actions[place]
        told = reasons.strongest(self.encoder.names, state, effects[:, place], "of lead in Q")
        record = self.history.get(action)
        if record is None:
            return told
        said = f"chosen {record.decisions} times in the training data"
        if record.decisions:
            said += f", {100 * record.succeeded / record.decisions:.0f} % succeeded"
        return (*told, Reason(said))

    def example(self) -> Request:
        """Return a state of which nothing is known."""
        return Request(state=dict.fromkeys(self.encoder.names))

    def inputs(self) -> dict[str, Any]:
        """Return the features and the actions."""
        return {"state": self.encoder.to_json(), "actions": list(self.actions)}

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write it, with what is to be said about it."""
        self.layers.write(folder / WEIGHTS)
        kept = {
            **about,
            "state_features": self.encoder.names,
            "feature_schema": self.encoder.to_json(),
            "action_space": [_shown(action) for action in self.actions],
            "action_history": {
                action: {"decisions": record.decisions, "succeeded": record.succeeded}
                for action, record in self.history.items()
            },
            "confidence": None if self.confidence is None else self.confidence.to_json(),
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
        curve = kept.get("confidence")  # older trainers kept none, and no history
        return cls(
            Encoder.from_json(kept["feature_schema"]),
            tuple(map(SEQUENCE.join, actions)),
            layers,
            None if curve is None else Calibrator.from_json(curve),
            {name: Record(**record) for name, record in kept.get("action_history", {}).items()},
        )


def margins(values: Numbers) -> Numbers:
    """Return how far each action's Q is above the best of the others: (rows, actions) of the same.

    It tells a success better than the Q itself, which counts what comes after as well, and so says
    as much of the state as of the action.
    """
    if len(values) == 1:  # the same arithmetic, without ten calls of numpy
        (row,) = values.tolist()
        first = row.index(max(row))
        best = row[first]
        rest = max(row[:first] + row[first + 1 :], default=-math.inf)
        lead = [value - best for value in row]
        lead[first] = best - rest
        return np.array([lead])
    values = values.astype(float)
    first = values.argmax(axis=1)[:, None]
    best = np.take_along_axis(values, first, axis=1)
    rest = values.copy()
    np.put_along_axis(rest, first, -np.inf, axis=1)
    found = values - best
    np.put_along_axis(found, first, best - rest.max(axis=1, keepdims=True), axis=1)
    return found


def _shown(action: str) -> str | list[str]:
    parts = action.split(SEQUENCE)
    return parts if len(parts) > 1 else action
