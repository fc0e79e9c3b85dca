"""Reviews of code to score, and how a team has scored them.

Review-Forge scores code reviews. A third of the reviews is good (names the place, the reason and a
fix), a third moderate (names the problem only), a third poor (`LGTM`). The answers imitate what a
team's history looks like before anybody asked for more: each has its score and its four dimensions,
but half of them are terse and few recommend anything. So a policy that learned from them always
answers in form, and its reward leaves room for GRPO to improve.

Three files: `train.jsonl` (prompt, completion), `prompts.jsonl` (prompt) and `validation.jsonl`
(prompt, completion), with no review in two of them.
"""

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Quality(StrEnum):
    """How good the review is that is scored."""

    GOOD = "good"
    MODERATE = "moderate"
    POOR = "poor"


SHARES = 10  # see examples()
DIMENSIONS = ("Clarity", "Completeness", "Actionability", "Constructiveness")
POINTS = {"strong": 24, "fair": 15, "weak": 5}  # of 25, for each dimension

# Chance of strong, fair and weak in one dimension of a review of this quality.
RATINGS = {
    Quality.GOOD: (0.85, 0.15, 0.0),
    Quality.MODERATE: (0.1, 0.75, 0.15),
    Quality.POOR: (0.0, 0.1, 0.9),
}

# Chance of each way to answer. Its reward: terse 0.4, plain 0.7, full 0.9.
STYLES = {"terse": 0.5, "plain": 0.3, "full": 0.2}
# Chance of one, two and three recommendations in a full answer.
RECOMMENDATIONS = (0.8, 0.15, 0.05)

REASONS = {
    "Clarity": {
        "strong": "names the line",
        "fair": "partly vague",
        "weak": "says nothing concrete",
    },
    "Completeness": {"strong": "gives the reason", "fair": "misses a case", "weak": "no detail"},
    "Actionability": {"strong": "has a fix", "fair": "hints at a fix", "weak": "no next step"},
    "Constructiveness": {"strong": "polite", "fair": "neutral", "weak": "not helpful"},
}
ADVICE = {
    Quality.GOOD: ("add a test for it", "link the style guide", "show the new code"),
    Quality.MODERATE: ("name the exact line", "explain why it matters", "propose a fix"),
    Quality.POOR: ("say what is wrong", "point to the code", "ask a precise question"),
}

FILES = ("cart.py", "auth.go", "queue.rs", "api.ts", "cache.py", "login.js", "worker.go", "db.py")
UNITS = ("parse", "save", "retry", "load", "merge", "close", "render", "flush")
PROBLEMS = (
    ("never closes the file", "it leaks descriptors", "use a with block"),
    ("swallows the error", "failures stay hidden", "return it to the caller"),
    ("reads the clock twice", "the two values differ", "read it once"),
    ("builds SQL by hand", "it can be injected", "bind the parameters"),
    ("holds the lock too long", "others wait for it", "copy the list first"),
    ("retries without a limit", "it can spin forever", "stop after five tries"),
)
POOR_REVIEWS = ("LGTM", "This is bad", "Nope", "Why?", "Looks fine to me", "Not great", "Ugly code")
POOR_TAILS = ("", "!", "...", " I guess", " again", " as usual", " please", ", sorry")


@dataclass(frozen=True)
class Example:
    """One review, as the prompt that asks for its score, and one answer."""

    quality: Quality
    prompt: str
    completion: str


def review(quality: Quality, rng: random.Random) -> str:
    """Write one review of this quality."""
    file, unit, line = rng.choice(FILES), rng.choice(UNITS), rng.randrange(1, 400)
    problem, reason, fix = rng.choice(PROBLEMS)
    match quality:
        case Quality.GOOD:
            return f"In {file} line {line}, {unit} {problem}: {reason}. Please {fix}."
        case Quality.MODERATE:
            return f"I think {unit} in {file} near line {line} {problem}."
        case Quality.POOR:
            where = f"{file}: " if rng.random() < 0.5 else ""  # noqa: PLR2004 - every second one
            return f"{where}{rng.choice(POOR_REVIEWS)}{rng.choice(POOR_TAILS)}"


def answer(quality: Quality, rng: random.Random) -> str:
    """Write one answer to a review of this quality, in one of the three styles."""
    ratings = {d: rng.choices(tuple(POINTS), RATINGS[quality])[0] for d in DIMENSIONS}
    score = f"Score: {sum(POINTS[rating] for rating in ratings.values())}"
    style = rng.choices(tuple(STYLES), tuple(STYLES.values()))[0]
    if style == "terse":
        return " | ".join([score, *(f"{d} {rating}" for d, rating in ratings.items())])
    lines = [f"{score}."]
    lines += [f"{d}: {rating}, {REASONS[d][rating]}." for d, rating in ratings.items()]
    if style == "full":
        count = rng.choices((1, 2, 3), RECOMMENDATIONS)[0]
        lines += [f"Recommendation: {advice}." for advice in rng.sample(ADVICE[quality], count)]
    return " ".join(lines)


def examples(count: int, rng: random.Random, shares: range) -> list[Example]:
    """Write examples, balanced over the qualities to within one, in random order.

    A review's checksum says which of ten shares it belongs to, so files that take different shares
    have no review in common, however many rows they have.
    """
    made: list[Example] = []
    for number in range(count):
        quality = list(Quality)[number % len(Quality)]
        text = review(quality, rng)
        while zlib.crc32(text.encode()) % SHARES not in shares:
            text = review(quality, rng)
        made.append(Example(quality, f'Score this review: "{text}"', answer(quality, rng)))
    rng.shuffle(made)
    return made


def write(path: Path, made: Sequence[Example], *fields: str) -> None:
    """Write rows with these fields and say what was written."""
    rows = ({field: str(getattr(e, field)) for field in fields} for e in made)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = ", ".join(f"{sum(e.quality is q for e in made)} {q}" for q in Quality)
    print(f"{path}: {len(made)} rows ({parts})", flush=True)  # noqa: T201 - the program's output


def make(count: int, seed: int, output: Path) -> None:
    """Write the three files: `count` rows to learn from, half as many prompts, a tenth held out."""
    rng = random.Random(seed)  # noqa: S311 - data, not secrets
    train, prompts = examples(count, rng, range(6)), examples(count // 2, rng, range(6, 9))
    held_out = examples(max(3, count // 10), rng, range(9, SHARES))
    write(output / "train.jsonl", train, "quality", "prompt", "completion")
    write(output / "prompts.jsonl", prompts, "quality", "prompt")
    write(output / "validation.jsonl", held_out, "quality", "prompt", "completion")
