"""From a row as a system logs it to the row that a recipe takes.

Two logs have a shape of their own: a labelled decision, `{input, output, label}`, and feedback on a
plan, `{prompt, plan, feedback, tags}`. The recipes of texts take both as a prompt, an answer and
what people called it. Everything else is taken as it is.
"""

import json
from collections.abc import Callable
from typing import Any

from policy_api.v1alpha1.recipes.blocks import RecipeBlocks
from policy_api.v1alpha1.recipes.common import TEXT_RECIPES, Recipe
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference
from policy_models import prompts

from policy_trainer import checks
from policy_trainer.data import Place, Row

CHAT = "messages"  # SFT takes a chat as one field
FEEDBACK = ("prompt", "plan", "feedback", "tags")
KEYWORDS = PlanPreference()  # whose keywords say whether people liked a plan

# Takes a row as it was read; returns the one to write, and what the recipe's check makes of that.
Shape = Callable[[Row, Place], tuple[Row, Row]]


class LeftOutError(Exception):
    """A good row that this recipe has no use for; the message says why."""


def of(run: RecipeBlocks) -> Shape:
    """Return how rows are shaped for a recipe.

    Raises:
        DataInvalidError: by the shape: what the training would say of the row.
        LeftOutError: by the shape: the training would have no use for the row.
    """
    check = checks.of(run)

    def shape(row: Row, place: Place) -> tuple[Row, Row]:
        if run.recipe in TEXT_RECIPES:
            made = answered(row, place)
            _check_label(run.recipe, made, place)
            checked = check(made, place)
            return ({CHAT: made[CHAT]} if CHAT in made else checked), checked
        checked = check(row, place)
        if run.recipe is Recipe.CQL:  # a sequence of actions stays a list
            return {**checked, "action": row["action"]}, checked
        if run.recipe is Recipe.PLAN_PREFERENCE:
            if checked["liked"] is None:
                raise LeftOutError("feedback is neither good nor bad")
            return {name: row[name] for name in FEEDBACK if name in row}, checked
        return row, checked

    return shape


def _check_label(recipe: Recipe, row: Row, place: Place) -> None:
    if recipe is Recipe.SFT and "label" in row and checks.pair(row, place)["label"] == "bad":
        raise LeftOutError("called bad: nothing to imitate")


def answered(row: Row, place: Place) -> Row:
    """Return a labelled decision or feedback as `{prompt, completion, label}`, others as they are.

    Raises:
        DataInvalidError: a field is missing.
        LeftOutError: the feedback says neither good nor bad.
    """
    if "input" in row or "output" in row:
        made = {"prompt": _rendered(row, "input", place)}
        made["completion"] = _rendered(row, "output", place)
        return {**made, "label": row["label"]} if "label" in row else made
    if "plan" in row:
        judged = checks.judged_plan(KEYWORDS, row, place)
        if judged["liked"] is None:
            raise LeftOutError("feedback is neither good nor bad")
        prompt = {"prompt": row["prompt"]} if "prompt" in row else {}
        label = "good" if judged["liked"] else "bad"
        return {**prompt, "completion": judged["plan"], "label": label}
    return row


def _rendered(row: Row, field: str, place: Place) -> str:
    """Return a text as it is, an object or a list as JSON with sorted keys."""
    value: Any = row.get(field)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, dict | list) and value:
        return prompts.of_object(value)
    found = "is missing" if field not in row else f"is {json.dumps(value)[:60]}"
    raise place.error(
        f"field {field!r} {found}, wanted a text or an object that is not empty", field
    )
