"""Offers to customers: who they are, and the policy that chooses. Numpy alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policy_models.classifier import Classifier
from policy_models.features import Row
from policy_models.layers import Activation, Layers, Numbers

FILE, WEIGHTS = "offer_policy.json", "offer_policy.safetensors"
ACTIVATION = Activation.TANH
RISK, ACCEPTANCE = "risk", "acceptance"  # roles, and folders in the artifact
OBSERVED = ("risk", "acceptance", "value", "period", "contacts", "spent")


@dataclass(frozen=True)
class Customers:
    """One number a customer."""

    risk: Numbers
    """Probability of leaving within the episode, without any offer."""
    acceptance: Numbers
    """Probability of accepting an offer without a discount."""
    value: Numbers
    """Revenue in a period."""

    @classmethod
    def of(
        cls, rows: Sequence[Row], column: str, risk: Classifier, acceptance: Classifier
    ) -> "Customers":
        """Return the customers of rows, as the two models see them."""
        values = np.array([float(row[column]) for row in rows])
        return cls(risk.probabilities(rows), acceptance.probabilities(rows), values)

    def part(self, index: Numbers) -> "Customers":
        """Return the customers of these numbers."""
        return Customers(self.risk[index], self.acceptance[index], self.value[index])


def logit(probabilities: Numbers) -> Numbers:
    """Return log-odds; certainty is capped at one in a million."""
    capped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.log(capped / (1 - capped))


@dataclass(frozen=True)
class OfferPolicy:
    """A network from observations to log-odds of actions, with the models that it looks through."""

    layers: Layers
    models: Mapping[str, Classifier]  # by role

    def probabilities(self, observed: Numbers, allowed: Numbers) -> Numbers:
        """Return the probability of each action: (customers, actions)."""
        found = np.where(allowed, self.layers.apply(observed.astype(np.float64)), -np.inf)
        raised = np.exp(found - found.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write it, with what is to be said about it and copies of both models."""
        self.layers.write(folder / WEIGHTS)
        (folder / FILE).write_text(json.dumps({**about, "observed": OBSERVED}, indent=1) + "\n")
        for role, model in self.models.items():
            (folder / role).mkdir()
            model.write(folder / role, role, "yes")
