"""What chooses without a model: at random, by what the training data shows, or by a rule. Pure.

A policy is judged beside these in its training, and one of them answers in its place where a
deployment says so (`spec.baseline`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from policy_api.rules.nearest import hint
from policy_api.v1alpha1.serving import Baseline, FixedRule, Operator, RuleCondition, Strategy

from policy_models.answers import AnswerCheck
from policy_models.decision import Decision, Option, Policy, Refusal, Request, greedy
from policy_models.features import number_of, values_of
from policy_models.fields import Violation


@dataclass(frozen=True)
class Record:
    """What became of an action in the training data."""

    decisions: int
    succeeded: int


NOTHING = Record(0, 0)


def frequency(record: Record) -> float:
    """Return how often an action was chosen."""
    return float(record.decisions)


def success(record: Record) -> float:
    """Return how often an action succeeded, from 0 to 1.

    One success and one failure are added, so that a single try is not 100 %.
    """
    return (record.succeeded + 1) / (record.decisions + 2)


BY_HISTORY: Mapping[Strategy, Callable[[Record], float]] = {
    Strategy.MOST_FREQUENT: frequency,
    Strategy.HIGHEST_SUCCESS: success,
}


def best(records: Sequence[Record], score: Callable[[Record], float]) -> int:
    """Return the place of the highest score; of equals the first."""
    return max(range(len(records)), key=lambda place: score(records[place]))


@runtime_checkable
class ActionPolicy(Protocol):
    """A policy that takes one of its own actions."""

    @property
    def actions(self) -> tuple[str, ...]:
        """All that it may do."""
        ...

    def choices(self, request: Request) -> tuple[str, ...] | Refusal:
        """Return the actions that a request allows, without asking the model."""
        ...


class Chooser(Protocol):
    """A baseline that was opened for a policy."""

    def choose(self, request: Request, allowed: Sequence[str]) -> Decision | None:
        """Return what it does; None: it has no answer to this request.

        Args:
            request: What is to be decided; it was found to be one that the policy can be asked.
            allowed: What may be done; empty where an answer is to be written.
        """
        ...


class UnavailableError(Exception):
    """A policy can't have this baseline; the message is one sentence that says what to change."""


@dataclass(frozen=True)
class AtRandom:
    """Takes any allowed action, each as likely."""

    def choose(self, request: Request, allowed: Sequence[str]) -> Decision | None:  # noqa: ARG002
        """Return the allowed actions; see Chooser."""
        if not allowed:
            return None
        share = 1 / len(allowed)
        return Decision(tuple(Option(action, share, probability=share) for action in allowed))


@dataclass(frozen=True)
class ByHistory:
    """Takes the action of which the training data says most."""

    history: Mapping[str, Record]
    score: Callable[[Record], float]

    def choose(self, request: Request, allowed: Sequence[str]) -> Decision | None:  # noqa: ARG002
        """Return the allowed actions by their score; see Chooser."""
        if not allowed:
            return None
        known = [(action, self.history.get(action, NOTHING)) for action in allowed]
        return Decision(
            greedy(
                Option(action, self.score(record), confidence=success(record))
                for action, record in known
            )
        )


@dataclass(frozen=True)
class ByRule:
    """Takes the action of the first case that holds; a case whose action is not allowed is none."""

    rule: FixedRule

    def choose(self, request: Request, allowed: Sequence[str]) -> Decision | None:
        """Return the one action; see Chooser."""
        state = request.state or {}
        found = [
            case.action
            for case in self.rule.cases or ()
            if all(holds(condition, state) for condition in case.when)
        ]
        found.append(self.rule.action or "")
        return next((certain(action) for action in found if action in allowed), None)


@dataclass(frozen=True)
class Fixed:
    """Gives one answer to every question."""

    answer: str

    def choose(self, request: Request, allowed: Sequence[str]) -> Decision | None:  # noqa: ARG002
        """Return the answer; see Chooser."""
        return certain(self.answer) if request.candidates is None else None


def certain(action: str) -> Decision:
    """Return the decision for one action and no other."""
    return Decision((Option(action, 1.0, probability=1.0),))


def holds(condition: RuleCondition, state: Mapping[str, Any]) -> bool:
    """Whether a condition holds of a state; no comparison does of what is not known."""
    cell = state.get(condition.feature)
    number, limit = number_of(cell), condition.value
    among = bool(set(values_of(cell)) & set(condition.values or ()))
    match condition.operator:
        case Operator.IN:
            return among
        case Operator.NOT_IN:
            return not among
        case Operator.LESS_THAN:
            return limit is not None and number < limit
        case Operator.AT_MOST:
            return limit is not None and number <= limit
        case Operator.AT_LEAST:
            return limit is not None and number >= limit
        case Operator.MORE_THAN:
            return limit is not None and number > limit


def allowed_of(policy: Policy, request: Request) -> tuple[str, ...] | Refusal:
    """Return what a request lets a policy choose from, without asking the model.

    Empty where an answer is to be written.
    """
    if isinstance(policy, ActionPolicy):
        return policy.choices(request)
    return tuple(dict.fromkeys(request.candidates or ()))


def open_baseline(wanted: Baseline, policy: Policy, check: AnswerCheck, *, writes: bool) -> Chooser:
    """Return what answers in a policy's place.

    Args:
        wanted: What the deployment says.
        policy: Whose place it takes.
        check: What its answers must look like.
        writes: It writes answers, instead of choosing among actions or candidates.

    Raises:
        UnavailableError: this policy can't have this baseline.
    """
    match wanted.strategy:
        case Strategy.RANDOM:
            if writes:
                raise UnavailableError(_lacks(wanted.strategy, "actions to choose from", writes))
            return AtRandom()
        case Strategy.MOST_FREQUENT | Strategy.HIGHEST_SUCCESS:
            history: Mapping[str, Record] = getattr(policy, "history", {})
            if not history:
                what = "a record of what the training data chose"
                raise UnavailableError(_lacks(wanted.strategy, what, writes))
            return ByHistory(history, BY_HISTORY[wanted.strategy])
        case Strategy.RULE:
            rule = wanted.rule or FixedRule()
            if rule.answer is not None:
                return _fixed(rule.answer, check, writes=writes)
            return _by_rule(rule, policy)


def _lacks(strategy: Strategy, what: str, writes: bool) -> str:
    instead = "Rule with an answer" if writes else "Random or Rule"
    return f"baseline {strategy} needs {what}, which this version lacks: use strategy {instead}"


def _fixed(answer: str, check: AnswerCheck, *, writes: bool) -> Chooser:
    if not writes:
        raise UnavailableError(
            "baseline.rule.answer is for policies that write answers, and this one chooses: set "
            "baseline.rule.action instead"
        )
    if isinstance(wrong := check.read(answer), Violation):
        raise UnavailableError(
            f"baseline.rule.answer breaks the policy's answerSchema: {wrong.message}"
        )
    return Fixed(answer)


def _by_rule(rule: FixedRule, policy: Policy) -> Chooser:
    if not isinstance(policy, ActionPolicy):
        raise UnavailableError(
            "baseline.rule.action is for policies with actions of their own: use strategy Random, "
            "or for a policy that writes answers baseline.rule.answer"
        )
    cases = rule.cases or ()
    features = [feature["name"] for feature in policy.inputs()["state"]]
    for name in (*(case.action for case in cases), rule.action or ""):
        if name not in policy.actions:
            raise UnavailableError(
                f"baseline.rule names the action {name!r}, which the policy does not have"
                f"{hint(name, policy.actions)}"
            )
    for condition in (condition for case in cases for condition in case.when):
        if condition.feature not in features:
            raise UnavailableError(
                f"baseline.rule names the feature {condition.feature!r}, which the policy does not "
                f"have{hint(condition.feature, features)}"
            )
    return ByRule(rule)
