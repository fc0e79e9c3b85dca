"""An agent file from a policy: how an assistant asks it, and tells it what came of its advice."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policy_api.contract.artifact import PolicyManifest
from policy_models.policy import open_policy

from policyctl import artifacts
from policyctl.errors import UserError


def of(folder: Path, server: str) -> str:
    """Return the agent file of an artifact, in Markdown with a YAML head.

    Args:
        folder: With policy.json.
        server: Where the policy is asked.

    Raises:
        UserError: It is no artifact, or its policy does not choose among actions of its own.
    """
    made = artifacts.load(folder)
    policy = open_policy(folder, made)
    inputs = policy.inputs()
    if "state" not in inputs or "actions" not in inputs:
        raise UserError(
            f"{folder} is a {made.kind}, which has no actions of its own: an advisor needs a "
            "policy that chooses among some, such as one of recipe CQL"
        )
    return "\n".join(_lines(made, inputs, _history(folder), server)) + "\n"


def _history(folder: Path) -> Mapping[str, Mapping[str, int]]:
    file = folder / "q_policy.json"
    if not file.is_file():
        return {}
    found: Mapping[str, Mapping[str, int]] = json.loads(file.read_text()).get("action_history", {})
    return found


def _lines(
    made: PolicyManifest,
    inputs: Mapping[str, Any],
    history: Mapping[str, Mapping[str, int]],
    server: str,
) -> Iterator[str]:
    url = f"{server.rstrip('/')}/v1"
    yield "---"
    yield "name: policy-advisor"
    yield (
        f"description: Says which of {len(inputs['actions'])} actions to take, from the policy "
        f"{made.policy} version {made.version} that was learned from logged decisions. Ask it "
        "before choosing one."
    )
    yield "tools: Bash"
    yield "---"
    yield f"You recommend what to do, by asking the policy `{made.policy}`. Do not choose yourself."
    yield ""
    yield "## Ask"
    yield "Describe the task with all of these fields; set to null what you do not know."
    yield ""
    yield "| field | is |"
    yield "| --- | --- |"
    for feature in inputs["state"]:
        yield f"| `{feature['name']}` | {_kind(feature)} |"
    yield ""
    yield "```"
    yield f"curl -s {url}/decisions -H 'Content-Type: application/json' -d '{_example(inputs)}'"
    yield "```"
    yield (
        'Where the server asks for a token, add `-H "Authorization: Bearer $TOKEN"`. An error has '
        "a sentence that says what to change."
    )
    yield ""
    yield "## Answer"
    yield (
        "Give the entries of `ranking`, the best first, each with its `confidence` (how often such "
        "a choice succeeded) and its `reasons`, and name the `decisionId`. An action with `>` is a "
        "sequence: one after the other. `unseen` names fields whose value the policy has never "
        "met: say then that it guesses."
    )
    yield ""
    yield "| action | chosen in the training data | succeeded |"
    yield "| --- | --- | --- |"
    for action in inputs["actions"]:
        yield f"| {action} | {_record(history.get(action))} |"
    yield ""
    yield "## Afterwards"
    yield "Say whether the recommendation was followed, and whether the task succeeded:"
    yield ""
    yield "```"
    yield (
        f"curl -s {url}/decisions/DECISION_ID/outcome -H 'Content-Type: application/json' "
        '-d \'{"followed": true, "success": true}\''
    )
    yield "```"


def _kind(feature: Mapping[str, Any]) -> str:
    values = ", ".join(f"`{value}`" for value in feature.get("values", ()))
    match feature["type"]:
        case "Categorical":
            return f"one of {values}"
        case "List":
            return f"a list of {values}"
        case _:
            return f"a number, {feature['mean']:.3g} on average"


def _example(inputs: Mapping[str, Any]) -> str:
    state: dict[str, Any] = {}
    for feature in inputs["state"]:
        values = list(feature.get("values", ()))
        match feature["type"]:
            case "Categorical":
                state[feature["name"]] = values[0] if values else ""
            case "List":
                state[feature["name"]] = values[:1]
            case _:
                state[feature["name"]] = round(feature["mean"], 2)
    return json.dumps({"state": state, "topK": 3, "explain": True})


def _record(record: Mapping[str, int] | None) -> str:
    if record is None or not record["decisions"]:
        return "never | -"
    share = record["succeeded"] / record["decisions"]
    return f"{record['decisions']:,} times | {share:.0%}"
