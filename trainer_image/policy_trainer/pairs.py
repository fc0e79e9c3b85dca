"""Preference pairs: read as they are, or made of answers that people called good or bad."""

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from policy_api.contract.run import RunConfig
from policy_models.text import rendering

from policy_trainer import checks, data
from policy_trainer.data import Data, Row
from policy_trainer.errors import DataInvalidError

log = logging.getLogger(__name__)


def load(run: RunConfig) -> dict[str, Data]:
    """Read the inputs as rows of `{prompt, chosen, rejected}`.

    Rows of `{prompt, completion, label}` become pairs: each bad answer with one of the good answers
    to the same prompt, chosen by the run's seed.

    Raises:
        DataInvalidError: names the row at fault, or says that no prompt has answers of both kinds.
    """
    loaded = data.load_all(run, checks.pair)
    return {name: _paired(name, part, run.seed) for name, part in loaded.items()}


def _paired(name: str, part: Data, seed: int) -> Data:
    ready = [row for row in part.rows if "chosen" in row]
    labelled = [row for row in part.rows if "label" in row]
    if not labelled:
        return part
    made = pair(labelled, seed)
    prompts = {row["prompt"] for row in labelled}
    kept = {row["prompt"] for row in made}
    if len(kept) < len(prompts):
        log.info("%s: %d prompts lack a good or a bad answer", name, len(prompts) - len(kept))
    if not ready and not made:
        raise none(name, len(prompts))
    rows = ready + made
    return Data(rows, part.used.model_copy(update={"rows": len(rows)}))


def none(name: str, prompts: int) -> DataInvalidError:
    """Return the error of an input of which no pair can be made."""
    return DataInvalidError(
        f"none of {prompts} prompts has a good and a bad answer, so there are no pairs",
        field=f"data[{name}]",
    )


def pair(labelled: list[Row], seed: int) -> list[Row]:
    """Return the pairs of `{prompt, completion, label}` rows, in the order of the bad ones."""
    good: dict[str, list[str]] = defaultdict(list)
    for row in labelled:
        if row["label"] == "good":
            good[row["prompt"]].append(row["completion"])
    bad = ((row["prompt"], row["completion"]) for row in labelled if row["label"] == "bad")
    return list(matched(bad, lambda asked: len(good[asked]), lambda asked, n: good[asked][n], seed))


def matched(
    bad: Iterable[tuple[str, str]],
    count: Callable[[str], int],
    good: Callable[[str, int], str],
    seed: int,
) -> Iterator[Row]:
    """Yield a pair for each bad answer to a prompt that has good ones.

    Args:
        bad: Prompts and answers.
        count: Returns how many good answers a prompt has.
        good: Returns one of them, numbered from 0.
        seed: Says which of them is taken.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    for prompt, answer in bad:
        if found := count(prompt):
            chosen = good(prompt, chance.randrange(found))
            yield {"prompt": prompt, "chosen": chosen, "rejected": answer}


def check_length(tokenizer: Any, rows: list[Row], longest: int, name: str) -> None:
    """Refuse a pair that is longer than the training takes.

    Raises:
        DataInvalidError: names the pair; TRL would cut or drop it without a word.
    """
    for number, row in enumerate(rows, start=1):
        for answer in ("chosen", "rejected"):
            length = len(rendering.answered_tokens(tokenizer, row["prompt"], row[answer]))
            if length > longest:
                raise DataInvalidError(
                    f"prompt and answer have {length} tokens, maxLength is {longest}: raise it or "
                    "leave the pair out",
                    field=f"data[{name}] pair {number} field {answer}",
                )
