"""Rewards that are declared in a manifest: an answer's reward is the sum of its terms."""

import importlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from policy_api.base import Metric
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.recipes.rewards import Length, Reward

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.judge import judge, opened
from policy_trainer.process import Process, prepare

# What TRL calls: completions (and prompts) in, rewards out; other columns come as keywords.
RewardFunction = Callable[..., list[float]]


def condition(reward: Reward, answer: str) -> float:
    """Return how far a term's condition on an answer's text holds, from 0 to 1.

    It is 0 or 1, but `length.target` and `length.under` are proportional: half of the length is
    worth a half.
    """
    if reward.contains is not None:
        return float(all(part in answer for part in reward.contains))
    if reward.contains_any is not None:
        return float(any(part in answer for part in reward.contains_any))
    if reward.regex is not None:
        return float(re.search(reward.regex, answer) is not None)
    if reward.forbidden is not None:
        return float(not violates(reward.forbidden, answer))
    assert reward.length is not None  # the API's rule: a term is of exactly one kind
    return _length(reward.length, len(answer))


def _length(length: Length, found: int) -> float:
    if length.target is not None:
        return min(1.0, found / length.target)
    if length.under is not None:
        return max(0.0, 1 - found / length.under)
    long_enough = length.min is None or found >= length.min
    short_enough = length.max is None or found <= length.max
    return float(long_enough and short_enough)


def violates(patterns: Sequence[str], answer: str) -> bool:
    """Say whether an answer has a text that is forbidden."""
    return any(re.search(pattern, answer) for pattern in patterns)


class Rewards:
    """The terms of a run's reward, ready to be computed.

    Args:
        run: Names the reward model and the judge.
        terms: What the manifest declares.
        field: Where it does, for messages: `grpo.rewards`.
        process: Decides on which device their models run.

    Raises:
        ConfigInvalidError: a regular expression does not compile, a function is not in the image or
            there is no reward model or criterion; names the term. Or the judge cannot be asked.
    """

    def __init__(
        self, run: RunConfig, terms: Sequence[Reward], field: str, process: Process
    ) -> None:
        self._run, self._terms, self._field, self._process = run, list(terms), field, process
        self._functions = {t.name: self._imported(t) for t in terms if t.function is not None}
        for reward in terms:
            self._check_patterns(reward)
            if reward.model is not None and run.reference(reward.model) is None:
                raise self._error(reward, "model", "name one in referenceModels.reward")
            if reward.judge is not None and reward.judge not in _criteria(run):
                raise self._error(reward, "judge", "name it in judge.criteria")
        # Now and not when they are first asked: what cannot be is refused at once, and under ZeRO-3
        # what is loaded later is spread over the processes.
        self._scorer = self._reward_model() if any(t.model for t in terms) else None
        self._judge = opened.of_run(run, process) if any(t.judge for t in terms) else None

    def term(self, reward: Reward, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """Return what one term adds for each answer.

        Raises:
            ConfigInvalidError: the term's function raised, or did not return a number an answer.
        """
        if reward.function is not None:
            found = self._call(reward, prompts, answers)
        elif reward.model is not None:
            found = self._model_scores(prompts, answers)
        elif reward.judge is not None:
            found = self._ratings(reward.judge, prompts, answers)
        else:
            found = [condition(reward, answer) for answer in answers]
        return [reward.weight * value for value in found]

    def totals(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """Return each answer's reward."""
        each = [self.term(reward, prompts, answers) for reward in self._terms]
        return [sum(terms) for terms in zip(*each, strict=True)]

    def add_up_judging(self) -> None:
        """Count what the judges of all processes took; all must call it."""
        if self._judge is not None:
            self._judge.add_up(self._process)

    def judging(self) -> list[Metric]:
        """Return what the judge took, see Judge.metrics; nothing without a judge."""
        return self._judge.metrics() if self._judge is not None else []

    def functions(self) -> list[RewardFunction]:
        """Return the terms as functions for TRL, which logs each one's mean under its name."""
        return [self._for_trl(reward) for reward in self._terms]

    def _for_trl(self, reward: Reward) -> RewardFunction:
        def score(
            completions: Sequence[Any], prompts: Sequence[Any], **_columns: object
        ) -> list[float]:
            asked, answers = [list(map(text_of, texts)) for texts in (prompts, completions)]
            return self.term(reward, asked, answers)

        score.__name__ = reward.name
        return score

    def _error(self, reward: Reward, kind: str, message: str) -> ConfigInvalidError:
        number = self._terms.index(reward)
        return ConfigInvalidError(
            f"reward {reward.name}: {message}", field=f"{self._field}[{number}].{kind}"
        )

    def _check_patterns(self, reward: Reward) -> None:
        patterns = [("regex", reward.regex)] if reward.regex is not None else []
        patterns += [("forbidden", pattern) for pattern in reward.forbidden or []]
        for kind, pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                message = f"{pattern!r} is not a regular expression: {error}"
                raise self._error(reward, kind, message) from error

    def _imported(self, reward: Reward) -> Callable[..., Any]:
        module, _, name = str(reward.function).partition(":")
        try:
            found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        except Exception as error:  # the module is the user's: importing it may raise anything
            message = f"cannot import {reward.function}: {type(error).__name__}: {error}"
            raise self._error(reward, "function", message) from error
        return found

    def _call(self, reward: Reward, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        try:
            made = self._functions[reward.name](prompts=list(prompts), completions=list(answers))
        except Exception as error:  # the function is the user's
            message = f"{reward.function} raised {type(error).__name__}: {error}"
            raise self._error(reward, "function", message) from error
        try:
            found = [float(value) for value in made]
        except (TypeError, ValueError) as error:
            message = f"{reward.function} returned something else than numbers: {error}"
            raise self._error(reward, "function", message) from error
        if len(found) != len(answers):
            message = f"{reward.function} returned {len(found)} numbers for {len(answers)} answers"
            raise self._error(reward, "function", message)
        for value, answer in zip(found, answers, strict=True):
            if not math.isfinite(value):
                message = f"{reward.function} returned {value} for {answer[:80]!r}"
                raise self._error(reward, "function", message)
        return found

    def _ratings(
        self, criterion: str, prompts: Sequence[str], answers: Sequence[str]
    ) -> list[float]:
        assert self._judge is not None  # a term has asked for it
        rated = self._judge.rate(list(zip(prompts, answers, strict=True)))
        return [judge.share(one.ratings[criterion]) for one in rated]

    def _reward_model(self) -> tuple[Any, Any]:
        from policy_trainer import base_model  # noqa: PLC0415 - torch

        return base_model.load_reward_model(self._run, self._process)

    def _model_scores(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        from policy_models.text import scorer  # noqa: PLC0415 - torch

        assert self._scorer is not None  # a term has asked for it
        model, tokenizer = self._scorer
        prepare(model, self._process)
        found = scorer.scores(model, tokenizer, list(zip(prompts, answers, strict=True)))
        return list(map(float, found))


def _criteria(run: RunConfig) -> list[str]:
    return [criterion.name for criterion in run.judge.criteria] if run.judge is not None else []


def text_of(message: str | Sequence[dict[str, Any]]) -> str:
    """Return a text of TRL's: it hands over a string, or a chat, of which this is the last part."""
    return message if isinstance(message, str) else str(message[-1]["content"])
