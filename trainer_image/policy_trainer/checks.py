"""What a row must be for each recipe: one set of rules, for training and for `policyctl data`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from policy_api.rules.nearest import hint
from policy_api.v1alpha1.recipes.blocks import RecipeBlocks, block_of, field_of
from policy_api.v1alpha1.recipes.classifier import Classifier
from policy_api.v1alpha1.recipes.common import Recipe
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_api.v1alpha1.recipes.plan_preference import PlanPreference
from policy_models import feedback
from policy_models.actions import SEQUENCE

from policy_trainer import data
from policy_trainer.data import Check, Place, Row
from policy_trainer.errors import DataInvalidError

LABELS = ("good", "bad")
ANSWERING = "assistant"
ROLES = ("system", "user", ANSWERING)
PROBED = (Recipe.PPO,)  # recipes that read `probes` instead of `test`


def of(run: RecipeBlocks) -> Check:  # noqa: PLR0911 - one a recipe
    """Return the check of the rows of a recipe, with the settings of its block."""
    block: Any = getattr(run, field_of(run.recipe))
    match run.recipe:
        case Recipe.SFT:
            return dialogue
        case Recipe.DPO | Recipe.REWARD_MODEL:
            return pair
        case Recipe.GRPO | Recipe.PPO:
            return data.texts("prompt")
        case Recipe.CQL:
            return partial(decision, known=block.actions)
        case Recipe.CONSTRAINED_PPO:
            return partial(customer, block)
        case Recipe.CLASSIFIER:
            return partial(classed, block)
        case Recipe.PLAN_PREFERENCE:
            return partial(judged_plan, block)


def inputs(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the inputs that a recipe reads."""
    return ("train", "validation", "probes") if recipe in PROBED else data.PARTS


def dialogue(row: Row, place: Place) -> Row:
    """Return `{prompt, completion}`; of a chat, what came before its last answer, and that."""
    if "messages" not in row:
        return {name: data.text(row, name, place) for name in ("prompt", "completion")}
    messages = row["messages"]
    if not isinstance(messages, list) or len(messages) < 2:  # noqa: PLR2004 - asked, answered
        raise place.error("field 'messages' must be a list of a question and an answer", "messages")
    made = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise place.error(
                f"{where} must be an object whose 'role' is {', '.join(ROLES)}", where
            )
        made.append({"role": message["role"], "content": data.text(message, "content", place)})
    if made[-1]["role"] != ANSWERING:
        raise place.error(
            f"the last message is of role {made[-1]['role']!r}, wanted {ANSWERING}: it is what is "
            "learned",
            where,
        )
    return {"prompt": made[:-1], "completion": made[-1]["content"]}


def pair(row: Row, place: Place) -> Row:
    """Return `{prompt, chosen, rejected}`, or `{prompt, completion, label}`."""
    if "label" not in row:
        return {name: data.text(row, name, place) for name in ("prompt", "chosen", "rejected")}
    if row["label"] not in LABELS:
        raise place.error(f"field 'label' is {row['label']!r}, wanted good or bad", "label")
    made = {name: data.text(row, name, place) for name in ("prompt", "completion")}
    return {**made, "label": row["label"]}


def decision(row: Row, place: Place, known: Sequence[str] = ()) -> Row:
    """Return a logged decision.

    Args:
        row: As it was read; a `next_state` may be left out where a decision was the last one.
        place: Where it stands.
        known: Actions that may be taken; none: any.

    Raises:
        DataInvalidError: names the field.
    """
    action = _action(row, place)
    if known and action not in known:
        raise place.error(unknown(action, known), "action")
    following = row.get("next_state")
    done = row.get("done", following is None)
    if not isinstance(done, bool):
        raise place.error(f"field 'done' is {done!r}, wanted true or false", "done")
    if not done and not isinstance(following, dict):
        message = "field 'next_state' must be an object unless 'done' is true"
        raise place.error(message, "next_state")
    if not isinstance(row.get("state"), dict):
        raise place.error("field 'state' must be an object of columns", "state")
    made = {
        "state": row["state"],
        "action": action,
        "reward": data.number(row, "reward", place),
        "next_state": following if isinstance(following, dict) else {},
        "done": done,
    }
    if "propensity" in row:
        made["propensity"] = data.number(row, "propensity", place)
        if not 0 < made["propensity"] <= 1:
            message = f"field 'propensity' is {made['propensity']:g}, wanted above 0 and at most 1"
            raise place.error(message, "propensity")
    return made


def _action(row: Row, place: Place) -> str:
    action = row.get("action")
    if isinstance(action, list) and action and all(isinstance(a, str) and a for a in action):
        return SEQUENCE.join(action)
    if isinstance(action, str) and action:
        return action
    found = "is missing" if "action" not in row else f"is {action!r}"
    raise place.error(f"field 'action' {found}, wanted a text or a list of texts", "action")


def unknown(action: str, known: Sequence[str]) -> str:
    """Say that an action may not be taken, and which one is near."""
    return f"action {action!r} is not one of {', '.join(known)}{hint(action, known)}"


def choices(taken: set[str], declared: Sequence[str]) -> list[str]:
    """Return what may be chosen: as declared, else what the training data has, by alphabet.

    Raises:
        DataInvalidError: there are not two.
    """
    space = list(declared) or sorted(taken)
    if len(space) < 2:  # noqa: PLR2004 - a choice
        raise DataInvalidError(
            f"the training data has {len(space)} action, there is nothing to choose",
            field="data[train]",
        )
    return space


def chosen(action: str, space: Sequence[str], name: str, number: int, field: str) -> None:
    """Refuse an action of a row of an input that the training data lacks.

    Raises:
        DataInvalidError: names the row.
    """
    if action not in space:
        raise DataInvalidError(
            f"{unknown(action, space)}: the training data lacks it; declare {field}.actions, or "
            "leave the row out",
            field=f"data[{name}] row {number} field action",
        )


def customer(block: ConstrainedPPO, row: Row, place: Place) -> Row:
    """Return a row whose revenue is above 0."""
    if data.number(row, block.value, place) <= 0:
        raise place.error(
            f"field {block.value!r} is a customer's revenue, wanted above 0", block.value
        )
    return row


def classed(block: Classifier, row: Row, place: Place) -> Row:
    """Return a row that has a class."""
    value = row.get(block.label)
    if value is None or value == "":
        found = "is empty" if block.label in row else "is missing"
        raise place.error(f"field {block.label!r} {found}: it is the label", block.label)
    return row


def class_of(block: Classifier, row: Row) -> str:
    """Return a row's class, written as `classifier.positive` is."""
    value = row[block.label]
    return str(value).lower() if isinstance(value, bool) else str(value)


def both_classes(block: Classifier, positive: int, rows: int) -> None:
    """Refuse training data of one class.

    Raises:
        DataInvalidError: says how many of its rows are positive.
    """
    if positive in {0, rows}:
        raise DataInvalidError(
            f"{block.label!r} is {block.positive!r} in {positive} of {rows} rows: "
            "training needs both classes",
            field="data[train]",
        )


def judged_plan(block: PlanPreference, row: Row, place: Place) -> Row:
    """Return `{plan, liked}`; it is None when what people said says neither."""
    tags = row.get("tags", [])
    if isinstance(tags, str):
        tags = [tags]
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise place.error(f"field 'tags' is {tags!r}, wanted a list of texts", "tags")
    said = row.get("feedback", "")
    if not isinstance(said, str):
        raise place.error(f"field 'feedback' is {said!r}, wanted a text", "feedback")
    liked = feedback.label(said, tags, block.positive_keywords, block.negative_keywords)
    return {"plan": data.text(row, "plan", place), "liked": liked}


def both_judgements(liked: int, rows: int) -> None:
    """Refuse training data whose plans are all liked, or none.

    Raises:
        DataInvalidError: says how many are.
    """
    if liked in {0, rows}:
        raise DataInvalidError(
            f"of {rows} labelled plans {liked} are liked: training needs liked and disliked ones",
            field="data[train]",
        )


def enough(run: RecipeBlocks, kinds: Mapping[str, int]) -> None:
    """Judge training data as a whole by how many rows it has of each kind (see `kind_of`).

    Raises:
        DataInvalidError: there is nothing to learn; the same sentence ends the training.
    """
    rows = sum(kinds.values())
    match run.recipe:
        case Recipe.CLASSIFIER:
            assert run.classifier is not None
            both_classes(run.classifier, kinds.get(run.classifier.positive, 0), rows)
        case Recipe.PLAN_PREFERENCE:
            both_judgements(kinds.get("liked", 0), rows)
        case Recipe.CQL:
            assert run.cql is not None
            choices(set(kinds), run.cql.actions)
        case _:
            pass


def settings(recipe: Recipe, values: Mapping[str, Any]) -> RecipeBlocks:
    """Return a recipe with settings of its block, as in a manifest; text recipes need none.

    Raises:
        pydantic.ValidationError: there is no such setting, or one is missing.
    """
    return RecipeBlocks.model_validate(
        {"recipe": recipe, **({block_of(recipe): values} if values or reads_block(recipe) else {})}
    )


def reads_block(recipe: Recipe) -> bool:
    """Say whether the check of a recipe's rows depends on its block."""
    return recipe in {
        Recipe.CQL,
        Recipe.CONSTRAINED_PPO,
        Recipe.CLASSIFIER,
        Recipe.PLAN_PREFERENCE,
    }
