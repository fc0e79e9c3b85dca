"""A judge that remembers what it said, keeps within its means, and is asked in both orders."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal, TypeVar

from policy_api.base import Metric
from policy_api.v1alpha1.judge import Criterion, JudgeEndpoint
from tqdm import tqdm

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.judge import prompts
from policy_trainer.judge.asker import Asker, Spent
from policy_trainer.judge.cache import Cache, key
from policy_trainer.judge.prompts import Choice, Compare, Question, Rate, Ratings
from policy_trainer.process import Process

MILLION = 1_000_000
Winner = Literal["first", "second", "tie"]
_Kind = TypeVar("_Kind", Ratings, Choice)


@dataclass(frozen=True)
class Verdict:
    """What a judge says of two answers, asked in both orders (Zheng et al. 2023, section 3.4)."""

    winner: Winner
    """`tie` also when the two orders disagree."""
    consistent: bool
    """Whether they agree."""


@dataclass(frozen=True)
class Prices:
    """What tokens cost, and how much may be spent; nothing by default."""

    input_usd: float = 0.0  # a million tokens
    output_usd: float = 0.0
    max_usd: float | None = None

    @classmethod
    def of(cls, endpoint: JudgeEndpoint) -> "Prices":
        """Return those of an endpoint."""
        return cls(
            endpoint.usd_per_million_input_tokens or 0.0,
            endpoint.usd_per_million_output_tokens or 0.0,
            endpoint.max_usd,
        )

    def usd(self, spent: Spent) -> float:
        """Return what was spent, in USD."""
        read, written = spent.input_tokens * self.input_usd, spent.output_tokens * self.output_usd
        return (read + written) / MILLION


class Judge:
    """Judges by criteria; a question that it knows is not asked again.

    Args:
        asker: Asks the model.
        criteria: What answers are judged by.
        cache: What it has said before.
        prices: Of the model's tokens.
        spent: What it has taken before.
        processes: How many judge at the same time, each with its part of the means.
    """

    def __init__(
        self,
        asker: Asker,
        criteria: Sequence[Criterion],
        cache: Cache,
        *,
        prices: Prices | None = None,
        spent: Spent | None = None,
        processes: int = 1,
    ) -> None:
        self._asker, self._criteria = asker, tuple(criteria)
        self._cache = cache
        self._prices = prices or Prices()
        self._processes = processes
        self.spent = spent or Spent()
        """What judging has taken."""
        self.asked = 0
        """Questions that were asked of the model since this judge was made."""
        self.known = 0
        """Questions whose reply was known."""

    @property
    def usd(self) -> float:
        """The same in USD."""
        return self._prices.usd(self.spent)

    def rate(self, answers: Sequence[tuple[str, str]]) -> list[Ratings]:
        """Rate answers.

        Args:
            answers: Pairs of a prompt and an answer.

        Raises:
            RunError: see Asker; or the means are spent.
        """
        return self._replies([Rate(prompt, answer) for prompt, answer in answers], Ratings)

    def compare(self, pairs: Sequence[tuple[str, str, str]]) -> list[Verdict]:
        """Compare answers, each pair in both orders.

        Args:
            pairs: Prompt, first answer, second answer.

        Raises:
            RunError: see `rate`.
        """
        there = [Compare(prompt, first, second) for prompt, first, second in pairs]
        back = [Compare(prompt, second, first) for prompt, first, second in pairs]
        choices = self._replies([*there, *back], Choice)
        return [
            _verdict(one, other)
            for one, other in zip(choices[: len(pairs)], choices[len(pairs) :], strict=True)
        ]

    def _replies(self, questions: Sequence[Question], kind: type[_Kind]) -> list[_Kind]:
        names = [self._key(question) for question in questions]
        missing = {
            name: question
            for name, question in zip(names, questions, strict=True)
            if self._cache.get(name) is None
        }
        self.known += len(questions) - len(missing)
        if missing:
            self._ask(list(missing.values()))
        found = [self._cache.get(name) for name in names]
        return [reply for reply in found if isinstance(reply, kind)]

    def _ask(self, questions: Sequence[Question]) -> None:
        self._check_means()
        answered = self._asker.ask(questions, self._criteria)
        shown = tqdm(answered, total=len(questions), unit="question", disable=None, leave=False)
        for number, one in enumerate(shown, start=1):
            self._cache.put(self._key(one.question), one.reply, one.spent)
            self.spent += one.spent
            self.asked += 1
            if number < len(questions):
                self._check_means()

    def _check_means(self) -> None:
        most = self._prices.max_usd
        if most is not None and self.usd >= most / self._processes:
            part = f", a process's part of {most:g}" if self._processes > 1 else ""
            raise ConfigInvalidError(
                f"the judge has cost {self.usd:.4g} USD, its maxUSD is {most / self._processes:g}"
                f"{part}: raise it, or judge fewer or shorter answers",
                "judge.endpoint.maxUSD",
            )

    def _key(self, question: Question) -> str:
        return key(self._asker.identity, prompts.SYSTEM, prompts.text(question, self._criteria))

    def add_up(self, process: Process) -> None:
        """Count what the judges of all processes have spent as this one's; all must call it."""
        from policy_trainer import engine  # noqa: PLC0415 - torch, which an endpoint does not need

        means = engine.mean_over_processes(process, astuple(self.spent))
        self.spent = Spent(*(round(mean * process.world_size) for mean in means))
        self._processes = 1

    def metrics(self) -> list[Metric]:
        """Return what judging took, in numbers that add up: they have no interval."""
        numbers: dict[str, float] = {
            "judge_requests": self.spent.requests,
            "judge_input_tokens": self.spent.input_tokens,
            "judge_output_tokens": self.spent.output_tokens,
        }
        if self._prices.input_usd or self._prices.output_usd:
            numbers["judge_usd"] = self.usd
        return [Metric(name=name, value=value) for name, value in numbers.items()]


def _verdict(there: Choice, back: Choice) -> Verdict:
    named: dict[str, Winner] = {"A": "first", "B": "second", "tie": "tie"}
    swapped: dict[str, Winner] = {"A": "second", "B": "first", "tie": "tie"}
    one, other = named[there.winner], swapped[back.winner]
    return Verdict(one if one == other else "tie", consistent=one == other)


def share(rating: float) -> float:
    """Return a rating on a scale from 0 (worst) to 1 (best)."""
    return (rating - prompts.LOW) / (prompts.HIGH - prompts.LOW)


def mean(ratings: Ratings) -> float:
    """Return the mean of an answer's ratings."""
    return sum(ratings.ratings.values()) / len(ratings.ratings)
