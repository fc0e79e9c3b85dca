"""Sampling for PPO: answers of the policy that learns, and what they are worth token by token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from policy_api.contract.artifact import Generation
from policy_api.contract.run import RunConfig
from policy_api.v1alpha1.recipes.ppo import PPO
from policy_models.text import rendering
from torch import nn

from policy_trainer import adapter, engine, evaluate, ppo
from policy_trainer.intervals import Numbers
from policy_trainer.ppo import Before, Scale
from policy_trainer.process import Process, prepare
from policy_trainer.rewards import Rewards

SAMPLE = 1  # what a seed is for


class Actor(nn.Module):  # type: ignore[misc]  # torch is not looked into
    """A causal model and a value head on its last layer.

    It stays in evaluation mode: dropout would make a token's old and new probability differ.

    Args:
        model: The model that answers.
        process: Decides the device.
    """

    def __init__(self, model: Any, process: Process) -> None:
        super().__init__()
        self.model = model
        self.value = nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self._process = process
        prepare(self, process)

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor, asked: int, heat: float) -> Any:
        """Return log-probabilities and values of the tokens after `asked`: (answers, tokens)."""
        logits, values = self.look(tokens, seen, asked, heat)
        return _log_probabilities(logits, tokens, asked), values

    def look(self, tokens: torch.Tensor, seen: torch.Tensor, asked: int, heat: float) -> Any:
        """Return logits and values of the tokens after `asked`."""
        with engine.autocast(self._process):
            found = self.model(**_inputs(tokens, seen), output_hidden_states=True)
        values = self.value(found.hidden_states[-1].float()).squeeze(-1)
        return _answers(found.logits, asked, heat), values[:, asked - 1 : -1]


def _inputs(tokens: torch.Tensor, seen: torch.Tensor) -> dict[str, Any]:
    """Return a model's inputs; positions count from the first token that is no padding."""
    places = (seen.cumsum(dim=1) - 1).clamp(min=0)
    return {"input_ids": tokens, "attention_mask": seen, "position_ids": places}


def _answers(logits: torch.Tensor, asked: int, heat: float) -> torch.Tensor:
    """Return the logits with which the tokens after `asked` were sampled."""
    return logits[:, asked - 1 : -1].float() / heat


def _log_probabilities(logits: torch.Tensor, tokens: torch.Tensor, asked: int) -> torch.Tensor:
    """Return the log-probability with which each token after `asked` was sampled."""
    return logits.log_softmax(dim=-1).gather(2, tokens[:, asked:, None]).squeeze(-1)


@dataclass(frozen=True)
class Sampled:
    """An iteration's answers of this process."""

    tokens: torch.Tensor  # (answers, asked + answered)
    seen: torch.Tensor  # the same shape: 1 where there is a token
    asked: int
    before: Before
    scale: Scale
    metrics: dict[str, float]  # the same in all processes


@dataclass(frozen=True)
class Sampler:
    """Samples answers; which prompts, and how, depends on seed, iteration and rank alone."""

    run: RunConfig
    block: PPO
    actor: Actor
    start: Any
    """What the policy shall stay near; with an adapter the same model, whose adapter is off."""
    tokenizer: Any
    rewards: Rewards
    process: Process

    def sample(
        self, prompts: Sequence[str], iteration: int, coefficient: float, scale: Scale
    ) -> Sampled:
        """Return answers to this process's prompts of an iteration.

        Args:
            prompts: Those of the training.
            iteration: From 1.
            coefficient: Of the penalty for leaving the start.
            scale: Of the scores until now.
        """
        block = self.block
        asked_of = self._drawn(prompts, iteration)
        engine.seed_all(self.run.seed, SAMPLE, iteration, self.process.rank)
        how = Generation(max_new_tokens=block.max_completion_length, temperature=block.temperature)
        tokens, asked = evaluate.generated(
            self.actor.model, self.tokenizer, asked_of, how, self.process
        )
        stops = rendering.stop_tokens(self.actor.model, self.tokenizer)
        tokens, seen, mask = ended(tokens, asked, stops, self.tokenizer.pad_token_id)
        answers = self.tokenizer.batch_decode(tokens[:, asked:], skip_special_tokens=True)
        scores = torch.tensor(self.rewards.totals(asked_of, answers), device=tokens.device).float()
        scale = scale.seen(*self._sums(scores))
        with torch.no_grad():
            mine, values = self.actor.look(tokens, seen, asked, block.temperature)
            with adapter.disabled(self.run, self.start), engine.autocast(self.process):
                found = self.start(**_inputs(tokens, seen)).logits
            theirs = _answers(found, asked, block.temperature)
            logs = _log_probabilities(mine, tokens, asked)
            apart = logs - _log_probabilities(theirs, tokens, asked)
            whole = ppo.divergences(mine, theirs)
        earned = ppo.token_rewards(scale.applied(scores), apart, mask, coefficient)
        gains = ppo.advantages(earned, values, mask, block.gamma, block.gae_lambda)
        means = engine.mean_over_processes(
            self.process,
            (n.item() for n in (scores.mean(), ppo.mean(whole, mask), mask.sum(dim=1).mean())),
        )
        metrics = dict(zip(("reward", "kl", "tokens"), means, strict=True))
        return Sampled(
            tokens=tokens,
            seen=seen,
            asked=asked,
            before=Before(mask, logs, values, _whitened(gains, mask, self.process), gains + values),
            scale=scale,
            metrics={**metrics, "kl_coefficient": coefficient},
        )

    def _sums(self, scores: torch.Tensor) -> list[float]:
        """Return how many scores all processes have, their sum, and that of their squares."""
        mine = (len(scores), scores.sum().item(), (scores.double() ** 2).sum().item())
        means = engine.mean_over_processes(self.process, mine)
        return [mean * self.process.world_size for mean in means]

    def _drawn(self, prompts: Sequence[str], iteration: int) -> list[str]:
        count = self.block.batch_size * self.process.world_size
        chance = np.random.default_rng([self.run.seed, iteration])
        drawn = chance.choice(len(prompts), size=count, replace=count > len(prompts))
        return [prompts[n] for n in drawn[self.process.rank :: self.process.world_size]]


def apart(
    model: Any,
    start: Any,
    tokenizer: Any,
    answers: Iterable[tuple[torch.Tensor, int]],
    heat: float,
) -> tuple[Numbers, Numbers]:
    """Return each answer's divergence from the start, summed over its tokens, and their number.

    Args:
        model: Whose answers they are.
        start: What to compare with, on the same device.
        tokenizer: Of both.
        answers: As `evaluate.generated` returns them.
        heat: The temperature.
    """
    found = []
    stops = rendering.stop_tokens(model, tokenizer)
    for made, asked in answers:
        tokens, seen, mask = ended(made, asked, stops, tokenizer.pad_token_id)
        inputs = _inputs(tokens, seen)
        with torch.inference_mode():
            mine, theirs = (_answers(m(**inputs).logits, asked, heat) for m in (model, start))
            divergence = ppo.divergences(mine, theirs) * mask
        found.append(torch.stack([divergence.sum(dim=1), mask.sum(dim=1)]).cpu())
    sums, counts = torch.cat(found, dim=1).double().numpy()
    return sums, counts


def ended(
    tokens: torch.Tensor, asked: int, stops: Sequence[int], padding: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the tokens, which of them are there, and which were sampled: up to each answer's end.

    The padding may be the same token as an end, so it is told by its place.
    """
    ends = torch.isin(tokens[:, asked:], torch.tensor(stops, device=tokens.device)).long()
    mask = (ends.cumsum(dim=1) - ends == 0).long()
    before = (tokens[:, :asked] != padding).long()
    before = before.cumsum(dim=1).clamp(max=1)  # padding is on the left
    answered = tokens[:, asked:] * mask + padding * (1 - mask)
    whole = torch.cat([tokens[:, :asked], answered], dim=1)
    return whole, torch.cat([before, mask], dim=1), mask.float()


def _whitened(gains: torch.Tensor, mask: torch.Tensor, process: Process) -> torch.Tensor:
    """Return advantages of mean 0 and deviation 1 over the tokens of all processes."""
    sums = (mask.sum(), (gains * mask).sum(), (gains**2 * mask).sum())
    count, total, squares = engine.mean_over_processes(process, (n.item() for n in sums))
    centre = total / count
    spread = max(squares / count - centre**2, 0.0) ** 0.5
    return (gains - centre) / (spread + 1e-8)
