"""From decisions as the log keeps them to the rows that a recipe is trained on. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference

from policy_models import feedback, prompts
from policy_models.actions import SEQUENCE
from policy_models.outcomes import NEGATIVE, POSITIVE

Row = dict[str, Any]
Record = Mapping[str, Any]
"""As GET /v1/decisions/{id} answers it."""

_WORDS = PlanPreference()
_TAGS = {POSITIVE: "pos", NEGATIVE: "neg"}


def of(recipe: Recipe, record: Record, label: str = "label") -> Iterator[Row]:
    """Yield the rows that a decision gives; none where what the recipe learns from is not known.

    Args:
        recipe: What is to be trained.
        record: The decision.
        label: Classifier: the column that says what came of it.
    """
    match recipe:
        case Recipe.SFT | Recipe.DPO | Recipe.REWARD_MODEL:
            yield from _answers(record, wanted=recipe)
        case Recipe.GRPO | Recipe.PPO:
            prompt = _prompt(record)
            if isinstance(prompt, str):
                yield {"prompt": prompt}
        case Recipe.CQL:
            yield from _step(record)
        case Recipe.CLASSIFIER:
            success = _outcome(record).get("success")
            if success is not None and isinstance(record.get("state"), Mapping):
                yield {**record["state"], label: int(success)}
        case Recipe.CONSTRAINED_PPO:
            if isinstance(record.get("state"), Mapping):
                yield dict(record["state"])
        case Recipe.PLAN_PREFERENCE:
            yield from _plans(record)


def _answers(record: Record, *, wanted: Recipe) -> Iterator[Row]:
    """Yield what people called an answer, and what they would have answered."""
    prompt, answer = _prompt(record), record.get("answer")
    if prompt is None:
        return
    for completion, good in _judged(record, answer):
        if wanted is not Recipe.SFT:
            if isinstance(prompt, str):
                label = "good" if good else "bad"
                yield {"prompt": prompt, "completion": completion, "label": label}
        elif good and isinstance(prompt, str):
            yield {"prompt": prompt, "completion": completion}
        elif good:
            yield {"messages": [*prompt, {"role": "assistant", "content": completion}]}


def _judged(record: Record, answer: str | None) -> Iterator[tuple[str, bool]]:
    """Yield answers with whether they are good, each once; the last word on one counts."""
    found: dict[str, bool] = {}
    for word in record.get("feedback") or ():
        corrected = word.get("correctedAction")
        if corrected is not None:
            found[corrected] = True
            if answer is not None and answer != corrected:
                found[answer] = False
        if answer is not None and word.get("label") is not None and corrected != answer:
            found[answer] = word["label"] == POSITIVE
    yield from found.items()


def _step(record: Record) -> Iterator[Row]:
    """Yield one step of an episode, if its reward is known."""
    outcome, action = _outcome(record), record.get("action")
    if "reward" not in outcome or action is None or not isinstance(record.get("state"), Mapping):
        return
    parts = action.split(SEQUENCE)
    row = {
        "state": record["state"],
        "action": parts if len(parts) > 1 else action,
        "reward": outcome["reward"],
        "next_state": outcome.get("nextState"),
        "done": outcome.get("done", "nextState" not in outcome),
    }
    if "propensity" in record:
        row["propensity"] = record["propensity"]
    yield row


def _plans(record: Record) -> Iterator[Row]:
    """Yield what was said of a plan; a label that a person set is a tag that says the same."""
    plan = record.get("action") or record.get("answer")
    for word in record.get("feedback") or ():
        if plan is None or word.get("label") is None:
            continue
        label = word["label"]
        text = word.get("text", "")
        heard = feedback.label(text, (), _WORDS.positive_keywords, _WORDS.negative_keywords)
        if heard is not None and heard != (label == POSITIVE):
            text = ""  # the label was set by a person, and wins
        row = {"plan": plan, "feedback": text, "tags": [_TAGS[label]]}
        yield {"prompt": record["prompt"], **row} if "prompt" in record else row


def _outcome(record: Record) -> Mapping[str, Any]:
    return record.get("outcome") or {}


def _prompt(record: Record) -> Any:
    """Return what a text policy was asked: a text, or a conversation."""
    if "prompt" in record:
        return record["prompt"]
    state = record.get("state")
    return prompts.of_object(state) if isinstance(state, Mapping) else None
