"""What a served Q policy says beside its action: how sure it is, and what the log has seen.

A Q is no probability: its unit is the reward's, and it counts what comes later. So what is
calibrated on how often the logged decisions succeeded is how far an action's Q is above the best of
the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from policy_models.baselines import Record
from policy_models.q_policy import QPolicy, margins

from policy_trainer.classifier_learning import fit_calibrator
from policy_trainer.decisions import Decisions

Numbers = Any  # numpy.ndarray, one number a row


def explained(policy: QPolicy, parts: Mapping[str, Decisions], success: float) -> QPolicy:
    """Return the policy with its confidence and the actions' history.

    The confidence is learned on `validation` where there is a `test` to judge it, else on `train`.

    Args:
        policy: What was learned.
        parts: The data, by name.
        success: A decision has succeeded when its reward is above this.
    """
    seen = parts["validation"] if "test" in parts and "validation" in parts else parts["train"]
    values, truth = _chosen(policy, seen), (seen.rewards > success).astype(float)
    known = parts["train"]
    return replace(
        policy,
        confidence=fit_calibrator(values, truth),
        history=_history(policy.actions, known, known.rewards > success),
    )


def of(policy: QPolicy, decisions: Decisions, success: float) -> tuple[Numbers, Numbers]:
    """Return how sure the policy is of each logged action, and 1 where it succeeded, else 0."""
    assert policy.confidence is not None  # explained
    truth = (decisions.rewards > success).astype(float)
    return policy.confidence.apply(_chosen(policy, decisions)), truth


def _chosen(policy: QPolicy, decisions: Decisions) -> Numbers:
    """Return the margin of the logged actions."""
    found = margins(policy.values(decisions.states))
    return found[np.arange(len(found)), decisions.actions]


def _history(actions: Sequence[str], known: Decisions, won: Numbers) -> dict[str, Record]:
    tries = np.bincount(known.actions, minlength=len(actions))
    wins = np.bincount(known.actions, weights=won, minlength=len(actions))
    return {
        action: Record(int(tried), int(succeeded))
        for action, tried, succeeded in zip(actions, tries, wins, strict=True)
    }
