"""Rewards that are declared in a manifest: an answer's reward is the sum of its terms."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from policy_api.v1alpha1.training import Reward

from policy_trainer.errors import ConfigInvalidError

# What TRL calls: a list of completions in, a list of rewards out; other columns come as keywords.
RewardFunction = Callable[..., list[float]]


def term(reward: Reward, answer: str) -> float:
    """Return what one term adds for an answer: its weight when its condition holds, else 0.

    `length.target` is proportional: half of the target earns half of the weight.
    """
    if reward.contains is not None:
        return reward.weight * all(text in answer for text in reward.contains)
    if reward.contains_any is not None:
        return reward.weight * any(text in answer for text in reward.contains_any)
    if reward.regex is not None:
        return reward.weight * (re.search(reward.regex, answer) is not None)
    length = reward.length
    if length is None:
        raise ConfigInvalidError(
            f"reward {reward.name} needs one of contains, containsAny, regex, length",
            field="grpo.rewards",
        )
    if length.target is not None:
        return reward.weight * min(1.0, len(answer) / length.target)
    long_enough = length.min is None or len(answer) >= length.min
    short_enough = length.max is None or len(answer) <= length.max
    return reward.weight * (long_enough and short_enough)


def total(rewards: Sequence[Reward], answer: str) -> float:
    """Return an answer's reward."""
    return sum(term(reward, answer) for reward in rewards)


def check(rewards: Sequence[Reward]) -> None:
    """Refuse rewards that could not be computed.

    Raises:
        ConfigInvalidError: a regular expression does not compile; names the term.
    """
    for index, reward in enumerate(rewards):
        if reward.regex is not None:
            try:
                re.compile(reward.regex)
            except re.error as error:
                raise ConfigInvalidError(
                    f"reward {reward.name}: {reward.regex!r} is not a regular expression: {error}",
                    field=f"grpo.rewards[{index}].regex",
                ) from error


def text_of(completion: str | Sequence[dict[str, Any]]) -> str:
    """Return a completion's text: TRL hands over a string, or the chat messages that it made."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def function(reward: Reward) -> RewardFunction:
    """Return one term as a function for TRL, which logs the term's mean under its name."""

    def score(completions: Sequence[Any], **_columns: object) -> list[float]:
        return [term(reward, text_of(completion)) for completion in completions]

    score.__name__ = reward.name
    return score
