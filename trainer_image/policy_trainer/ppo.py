"""The arithmetic of PPO for texts: scores, advantages, losses, the adaptive penalty. No models.

All tensors are (answers, tokens); `mask` is 1 where a token was sampled, 0 after an answer's end.
"""

from dataclasses import dataclass, fields

import torch
from policy_api.v1alpha1.recipes.ppo import AdaptiveKL

MOST_ERROR = 0.2  # Ziegler et al. 2019, section 2.2
SAME = 1e-6  # a deviation below is none


@dataclass(frozen=True)
class Before:
    """What was known of some answers when they were sampled."""

    mask: torch.Tensor
    logs: torch.Tensor
    values: torch.Tensor
    gains: torch.Tensor
    """Advantages, of mean 0 and deviation 1."""
    returns: torch.Tensor

    def rows(self, chosen: torch.Tensor) -> "Before":
        """Return that of some of the answers."""
        return Before(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Scale:
    """Brings scores to mean 0 and deviation 1 over all that were seen, as Ziegler et al. 2019.

    So what a coefficient of the penalty, a clip of a value and a step are does not depend on the
    unit of the rewards, and the value head is right on average when it begins with 0.
    """

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def seen(self, count: float, total: float, squares: float) -> "Scale":
        """Return the scale that knows these scores as well: how many, their sum, of squares."""
        return Scale(self.count + count, self.total + total, self.squares + squares)

    def applied(self, scores: torch.Tensor) -> torch.Tensor:
        """Return scores in this scale; where all are the same, only their mean is taken off."""
        centre = self.total / self.count
        spread = max(self.squares / self.count - centre**2, 0.0) ** 0.5
        return (scores - centre) / (spread if spread > SAME else 1.0)


def divergences(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return the KL divergence of each token's distribution: (answers, tokens), in nats.

    Of whole distributions, not of the tokens that were drawn: the same mean, and far less noise.

    Args:
        mine: Logits of the policy that answered, (answers, tokens, vocabulary).
        theirs: Those of what it shall stay near.
    """
    rows = zip(mine, theirs, strict=True)  # one by one: two vocabularies of a row at a time
    return torch.stack([_divergence(a.log_softmax(-1), b.log_softmax(-1)) for a, b in rows])


def _divergence(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return (mine.exp() * (mine - theirs)).sum(dim=-1)


def token_rewards(
    scores: torch.Tensor, divergence: torch.Tensor, mask: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """Return each token's reward: the penalty on leaving the start, and at the end the score.

    Args:
        scores: Of whole answers, (answers,).
        divergence: Log-probability of each token less the start's.
        mask: See above.
        coefficient: Of the penalty.
    """
    rewards = -coefficient * divergence * mask
    last = mask.sum(dim=1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lambda_: float
) -> torch.Tensor:
    """Return generalized advantage estimates (Schulman et al. 2016, equation 16).

    After an answer's end there is no more reward, so the value there is 0.
    """
    found = torch.zeros_like(rewards)
    later = torch.zeros(len(rewards), device=rewards.device)
    following = torch.zeros(len(rewards), device=rewards.device)
    for token in reversed(range(rewards.shape[1])):
        here = mask[:, token]
        error = rewards[:, token] + gamma * following - values[:, token]
        later = here * (error + gamma * lambda_ * later)
        following = here * values[:, token]
        found[:, token] = later
    return found


def losses(
    logs: torch.Tensor, values: torch.Tensor, before: Before, clip: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the policy loss, the value loss, and the share of tokens that were clipped.

    The policy loss is that of Schulman et al. 2017, equation 7. A value moves at most `clip` at
    once as well, as in OpenAI's and TRL's implementations.

    Args:
        logs: Log-probabilities now.
        values: Values now.
        before: What was known when the answers were sampled.
        clip: How far a ratio and a value may move.
    """
    mask = before.mask
    ratio = (logs - before.logs).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    policy = mean(-torch.minimum(before.gains * ratio, before.gains * clipped), mask)
    near = before.values + (values - before.values).clamp(-clip, clip)
    worse = torch.maximum((values - before.returns) ** 2, (near - before.returns) ** 2)
    return policy, 0.5 * mean(worse, mask), mean((ratio != clipped).float(), mask)


def moved(logs: torch.Tensor, before: Before) -> float:
    """Return how far the policy has gone from the one that sampled: KL divergence, nats a token.

    Schulman's estimate that is never negative ("Approximating KL Divergence", 2020).
    """
    apart = (logs - before.logs).detach()
    return float(mean(apart.exp() - 1 - apart, before.mask))


def mean(numbers: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the sampled tokens."""
    return (numbers * mask).sum() / mask.sum()


def next_coefficient(coefficient: float, divergence: float, kl: AdaptiveKL) -> float:
    """Return the penalty's next coefficient (Ziegler et al. 2019, section 2.2), or the first.

    It is never below the first. A policy that has learned all that is rewarded stays below the
    target by itself, and a coefficient that goes on falling until it does not would let it drift
    where nothing is rewarded. It moves by a fifth at most: when it could double, a penalty much
    larger than the scores drowned them in its own noise, and the divergence grew with it.

    Args:
        coefficient: The one that was used.
        divergence: What came of it, in nats a token.
        kl: Its target, and how fast to follow.
    """
    error = max(-MOST_ERROR, min(MOST_ERROR, divergence / kl.target - 1))
    return max(kl.initial, coefficient * (1 + kl.rate * error))
