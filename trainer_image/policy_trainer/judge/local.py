"""A judge that is a language model in this process.

It writes nothing: a rating is the expectation over the probabilities of the ten numbers, which
tells answers apart better than the likeliest number does (Liu et al. 2023, G-Eval, equation 1), and
a comparison takes the likeliest of A, B and tie. So every reply is valid, whatever the model.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from policy_api.v1alpha1.judge import Criterion
from policy_models.text import rendering
from transformers import AutoModelForCausalLM, AutoTokenizer

from policy_trainer.errors import ConfigInvalidError, DataInvalidError
from policy_trainer.judge import prompts
from policy_trainer.judge.asker import Answered, Spent
from policy_trainer.judge.prompts import Choice, Question, Rate, Ratings
from policy_trainer.process import Process, prepare

BATCH = 16  # questions at once
NUMBERS = tuple(map(str, prompts.NUMBERS))


class LocalAsker:
    """Asks a causal model that is loaded here.

    Args:
        name: Hub id, or a folder.
        field: Where it was named, for messages.
        process: Decides the device.

    Raises:
        ConfigInvalidError: there is no such model.
    """

    def __init__(self, name: str, field: str, process: Process) -> None:
        dtype = torch.bfloat16 if process.on_gpu else torch.float32
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            self._model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        except (OSError, ValueError) as error:
            raise ConfigInvalidError(f"cannot load the judge {name}: {error}", field) from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._device = prepare(self._model, process)
        self._identity = f"{name} {_fingerprint(Path(name), self._model)}"

    @property
    def identity(self) -> str:
        """See Asker."""
        return self._identity

    def ask(
        self, questions: Sequence[Question], criteria: Sequence[Criterion]
    ) -> Iterator[Answered]:
        """See Asker.

        Raises:
            DataInvalidError: a question is longer than the model reads.
        """
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            yield from self._rated([q for q in batch if isinstance(q, Rate)], criteria)
            yield from self._compared([q for q in batch if not isinstance(q, Rate)], criteria)

    def _rated(
        self, questions: Sequence[Question], criteria: Sequence[Criterion]
    ) -> Iterator[Answered]:
        values = torch.tensor(prompts.NUMBERS, dtype=torch.float64)
        ratings: list[dict[str, float]] = [{} for _ in questions]
        tokens = [0] * len(questions)
        for criterion in criteria if questions else ():
            asked = [prompts.alone(question, criterion, criteria) for question in questions]
            chances, lengths = self._chances(asked, NUMBERS)
            for n, (chance, length) in enumerate(zip(chances, lengths, strict=True)):
                ratings[n][criterion.name] = float(chance @ values)
                tokens[n] += length
        for question, rated, length in zip(questions, ratings, tokens, strict=True):
            yield Answered(question, Ratings(ratings=rated), Spent(len(criteria), length, 0))

    def _compared(
        self, questions: Sequence[Question], criteria: Sequence[Criterion]
    ) -> Iterator[Answered]:
        if not questions:
            return
        asked = [prompts.alone(question, None, criteria) for question in questions]
        for question, chance, length in zip(
            questions, *self._chances(asked, prompts.SIDES), strict=True
        ):
            winner = prompts.SIDES[int(chance.argmax())]
            yield Answered(question, Choice.model_validate({"winner": winner}), Spent(1, length, 0))

    def _chances(
        self, asked: Sequence[str], words: Sequence[str]
    ) -> tuple[torch.Tensor, list[int]]:
        """Return the probability of each word as the reply, (questions, words), and the tokens."""
        before = [rendering.ask(self._tokenizer, question).text for question in asked]
        lengths = [len(self._tokens(question)) for question in before]
        self._check(max(lengths))
        options = self._options(before[0], words)
        logs = {start: self._next(before, start) for start in _starts(options)}
        chances = torch.stack([_chance(option, options, logs) for option in options], dim=1)
        return chances / chances.sum(dim=1, keepdim=True), lengths

    def _options(self, before: str, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the tokens of each word as they follow a question."""
        known = len(self._tokens(before))
        return [tuple(self._tokens(before + word)[known:]) for word in words]

    def _next(self, before: Sequence[str], start: tuple[int, ...]) -> torch.Tensor:
        """Return the probabilities of the token after questions and the start of a reply."""
        batch = self._tokenizer.pad(
            {"input_ids": [self._tokens(question) + list(start) for question in before]},
            padding_side="left",
            return_tensors="pt",
        ).to(self._device)
        places = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = self._model(**batch, position_ids=places, logits_to_keep=1).logits
        return logits[:, -1].double().softmax(dim=-1).cpu()

    def _tokens(self, text: str) -> list[int]:
        templated = bool(self._tokenizer.chat_template)
        return rendering.open_tokens(self._tokenizer, text, templated=templated)

    def _check(self, longest: int) -> None:
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None and longest >= room:
            raise DataInvalidError(
                f"a question to the judge has {longest} tokens, it reads {room}: shorten prompt, "
                "answer and criteria, or take another judge"
            )


def _starts(options: Sequence[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Return every part of a reply after which the next token matters: "" and, of "10", "1"."""
    return {option[:length] for option in options for length in range(len(option))}


def _chance(
    option: tuple[int, ...],
    options: Sequence[tuple[int, ...]],
    logs: dict[tuple[int, ...], torch.Tensor],
) -> torch.Tensor:
    """Return the probability of a reply: of its tokens, and that no longer option goes on."""
    chance = torch.ones(len(logs[()]), dtype=torch.float64)
    for place, token in enumerate(option):
        chance = chance * logs[option[:place]][:, token]
    longer = {o[len(option)] for o in options if o != option and o[: len(option)] == option}
    return chance * (1 - sum(logs[option][:, token] for token in longer))


def _fingerprint(folder: Path, model: Any) -> str:
    """Return what changes when the model's files do: its commit in the hub, or sizes and times."""
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None))
    files = sorted(file for file in folder.iterdir() if file.is_file())
    known = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(known).encode()).hexdigest()
