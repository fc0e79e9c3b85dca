"""Offers to customers: who they are, and the policy that chooses. Numpy alone.

`offer_policy.json` has the rules that it was learned under, and what is needed to see a customer as
it saw them; `offer_policy.safetensors` the weights; `risk/` and `acceptance/` are the classifiers
that it looks through.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from policy_models import reasons, states
from policy_models.actions import chosen, places
from policy_models.classifier import Classifier
from policy_models.decision import INVALID, Decision, Option, Reason, Refusal, Request, wants
from policy_models.features import Row
from policy_models.layers import Activation, Layers, Numbers

FILE, WEIGHTS = "offer_policy.json", "offer_policy.safetensors"
ACTIVATION = Activation.TANH
RISK, ACCEPTANCE = "risk", "acceptance"  # roles, and folders in the artifact
OBSERVED = ("risk", "acceptance", "value", "period", "contacts", "spent")
# What a caller may say beside the features, as an object of numbers; absent: an episode begins.
HISTORY = "history"
PAST = ("period", "contacts", "spent")  # its numbers


@dataclass(frozen=True)
class Customers:
    """One number a customer."""

    risk: Numbers
    """Probability of leaving within the episode, without any offer."""
    acceptance: Numbers
    """Probability of accepting an offer without a discount."""
    value: Numbers
    """Revenue in a period."""
    scale: float
    """The mean revenue of the training's customers: what the policy measures revenue with."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        column: str,
        models: Mapping[str, Classifier],
        scale: float | None = None,
    ) -> "Customers":
        """Return the customers of rows, as the two models see them.

        Args:
            rows: One a customer.
            column: Has the revenue.
            models: By role.
            scale: None: these are the training's.
        """
        values = np.array([float(row[column]) for row in rows])
        risk, acceptance = (models[role].probabilities(rows) for role in (RISK, ACCEPTANCE))
        return cls(risk, acceptance, values, float(values.mean()) if scale is None else scale)

    def part(self, index: Numbers) -> "Customers":
        """Return the customers of these numbers."""
        return replace(
            self,
            risk=self.risk[index],
            acceptance=self.acceptance[index],
            value=self.value[index],
        )


@dataclass(frozen=True)
class Rules:
    """What an observation is measured with."""

    periods: int
    """Of an episode."""
    most_contacts: int
    """Of a customer, within the window of fatigue."""


def logit(probabilities: Numbers) -> Numbers:
    """Return log-odds; certainty is capped at one in a million."""
    capped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.log(capped / (1 - capped))


def observe(
    customers: Customers, rules: Rules, period: Numbers, contacts: Numbers, spent: Numbers
) -> Numbers:
    """Return what the policy sees of customers: float32 (customers, 6), see OBSERVED.

    Args:
        customers: Who.
        rules: The simulation's.
        period: Periods since the episode began.
        contacts: Within the window of fatigue.
        spent: On the customer in this episode.
    """
    columns = (
        logit(customers.risk),
        logit(customers.acceptance),
        customers.value / customers.scale - 1,
        period / rules.periods,
        contacts / rules.most_contacts,
        spent / (customers.scale * rules.periods),
    )
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """What is needed to see a customer as the policy did."""

    column: str
    """Has the revenue of a period."""
    scale: float
    """See Customers."""
    rules: Rules
    means: tuple[float, ...]
    """Of the training's observations: what an observation is compared with to explain it."""


@dataclass(frozen=True)
class OfferPolicy:
    """A network from observations to log-odds of actions, with the models that it looks through."""

    layers: Layers
    models: Mapping[str, Classifier]  # by role
    actions: tuple[str, ...]
    """No contact first."""
    seen: Seen
    slow = False

    def probabilities(self, observed: Numbers, allowed: Numbers) -> Numbers:
        """Return the probability of each action: (customers, actions)."""
        return chances(self.layers, observed, allowed)

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Rank the actions by their probability; the policy draws among them, as when judged."""
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision | Refusal:
        allowed = self._allowed(request)
        if isinstance(allowed, Refusal):
            return allowed
        state = request.state or {}
        past = self._past(state)
        customers = Customers.of([state], self.seen.column, self.models, self.seen.scale)
        observed = observe(customers, self.seen.rules, *(np.array([past[n]]) for n in PAST))
        mask = np.isin(np.arange(len(self.actions)), allowed)[None, :]
        likely = self.probabilities(observed, mask)[0]
        effects = self._effects(observed) if request.explain else None
        order = sorted(allowed, key=lambda place: -likely[place])
        ranking = tuple(
            Option(
                self.actions[place],
                float(likely[place]),
                probability=float(likely[place]),
                confidence=float(likely[place]),
                reasons=() if effects is None else self._reasons(place, customers, past, effects),
            )
            for place in order
        )
        return Decision(ranking, self._unseen(state))

    def choices(self, request: Request) -> tuple[str, ...] | Refusal:
        """Return the actions that a request allows, without asking the network."""
        return chosen(self._allowed(request), self.actions)

    def _allowed(self, request: Request) -> list[int] | Refusal:
        if (wrong := self._refusal(request.state)) is not None:
            return wrong
        found = places(request, self.actions)
        if isinstance(found, Refusal):
            return found
        contacts = self._past(request.state or {})["contacts"]
        if contacts < self.seen.rules.most_contacts:
            return found
        if 0 not in found:  # tired: what may never happen
            return Refusal(
                INVALID,
                f"the customer had {contacts:g} contacts, at most "
                f"{self.seen.rules.most_contacts} are allowed: add {self.actions[0]!r} to "
                "candidates",
            )
        return [0]

    def _past(self, state: Row) -> dict[str, float]:
        told = state.get(HISTORY) if HISTORY not in self._features else None
        return {name: float((told or {}).get(name) or 0) for name in PAST}

    def _unseen(self, state: Row) -> tuple[str, ...]:
        encoders = (model.encoder for model in self.models.values())
        return tuple(dict.fromkeys(name for e in encoders for name in states.unseen(e, state)))

    def _refusal(self, state: Row | None) -> Refusal | None:
        if state is None:
            return wants("state, an object of a customer's features")
        features = self._features
        if (wrong := states.unknown(state, dict.fromkeys([*features, HISTORY]))) is not None:
            return wrong
        for model in self.models.values():
            names = set(model.encoder.names)
            part = {name: value for name, value in state.items() if name in names}
            if (wrong := states.refusal(model.encoder, part)) is not None:
                return wrong
        revenue = state.get(self.seen.column)
        if revenue is None:
            return Refusal(INVALID, f"state.{self.seen.column} is missing: set it to a number")
        return states.number(self.seen.column, revenue) or (
            None if HISTORY in features else _history(state.get(HISTORY))
        )

    @cached_property
    def _features(self) -> list[str]:
        columns = (name for model in self.models.values() for name in model.encoder.names)
        return list(dict.fromkeys([*columns, self.seen.column]))

    def _effects(self, observed: Numbers) -> Numbers:
        """Return what each observation adds to each action's log-odds, beside an average one."""
        rows = np.repeat(observed, len(OBSERVED), axis=0)
        np.fill_diagonal(rows, self.seen.means)
        lead = self.layers.apply(np.concatenate([observed, rows]).astype(np.float64))
        lead -= lead.mean(axis=1, keepdims=True)
        return lead[0] - lead[1:]

    def _reasons(
        self, place: int, customers: Customers, past: Mapping[str, float], effects: Numbers
    ) -> tuple[Reason, ...]:
        values = {
            **past,
            RISK: float(customers.risk[0]),
            ACCEPTANCE: float(customers.acceptance[0]),
            "value": float(customers.value[0]),
        }
        return reasons.strongest(OBSERVED, values, effects[:, place].tolist(), "of log-odds")

    def example(self) -> Request:
        """Return a customer of whom nothing but the revenue is known."""
        nothing = dict.fromkeys(self._features)
        return Request(state={**nothing, self.seen.column: self.seen.scale})

    def inputs(self) -> dict[str, Any]:
        """Return the features of a customer, and the actions."""
        schema = {
            entry["name"]: entry
            for model in self.models.values()
            for entry in model.encoder.to_json()
        }
        revenue = {"name": self.seen.column, "type": "Numeric"}
        schema.setdefault(self.seen.column, revenue)
        past = {} if HISTORY in schema else {HISTORY: list(PAST)}
        return {"state": list(schema.values()), **past, "actions": list(self.actions)}

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write it, with what is to be said about it and copies of both models."""
        self.layers.write(folder / WEIGHTS)
        kept = {
            **about,
            "actions": self.actions,
            "observed": OBSERVED,
            "value_column": self.seen.column,
            "value_mean": self.seen.scale,
            "periods": self.seen.rules.periods,
            "most_contacts": self.seen.rules.most_contacts,
            "observed_means": self.seen.means,
        }
        (folder / FILE).write_text(json.dumps(kept, indent=1) + "\n")
        for role, model in self.models.items():
            (folder / role).mkdir()
            model.write(folder / role)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            ValueError: An older trainer wrote it, which did not keep all that is needed.
        """
        kept = json.loads((folder / FILE).read_text())
        if "value_mean" not in kept:
            raise ValueError(
                f"{FILE} has no value_mean: it was written by a trainer that kept too little to "
                "serve from; train it again"
            )
        seen = Seen(
            kept["value_column"],
            float(kept["value_mean"]),
            Rules(int(kept["periods"]), int(kept["most_contacts"])),
            tuple(kept["observed_means"]),
        )
        models = {role: Classifier.read(folder / role) for role in (RISK, ACCEPTANCE)}
        layers = Layers.read(folder / WEIGHTS, ACTIVATION)
        return cls(layers, models, tuple(kept["actions"]), seen)


def _history(told: Any) -> Refusal | None:
    """Say what is wrong with a customer's history, or None."""
    if told is None:
        return None
    if not isinstance(told, dict) or not set(told) <= set(PAST):
        return Refusal(INVALID, f"state.{HISTORY} must be an object of {', '.join(PAST)}")
    for name, value in told.items():
        if (wrong := states.number(f"{HISTORY}.{name}", value)) is not None:
            return wrong
        if (value or 0) < 0:
            return Refusal(INVALID, f"state.{HISTORY}.{name} must not be below 0")
    return None


def chances(layers: Layers, observed: Numbers, allowed: Numbers) -> Numbers:
    """Return the probability of each action: (customers, actions), 0 where it is not allowed."""
    found = np.where(allowed, layers.apply(observed.astype(np.float64)), -np.inf)
    raised = np.exp(found - found.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
