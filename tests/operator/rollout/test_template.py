"""A pod template that can't be: told before anything is written, and traffic still goes back."""

from typing import Any

import pytest
from policy_operator.machinery.errors import ApiError, Denied, Invalid, refusal
from policy_operator.rollout.decide import LOOK_AGAIN
from rollout_world import NAME, World

GOOD: dict[str, Any] = {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}
WRONG: dict[str, Any] = {"template": {"spec": {"automountServiceAccountToken": True}}}
SENTENCE = (
    "spec.server.template.spec.automountServiceAccountToken can't be set: the operator sets it to "
    "False"
)
INVALID = Invalid(422, "Invalid", "spec.template.spec.tolerations[0].operator: bad", "APPLY")
UNKNOWN = refusal(
    500,
    b'{"message": "failed to create typed patch object (ml/x): .spec.x: field not declared"}',
    "APPLY",
)


def made(world: World) -> set[str]:
    """Return the names of what was written; alerts do not need a server."""
    return {name for verb, _, name in world.writes if verb == "apply"}


def test_what_contradicts_us_is_told_and_nothing_is_written():
    world = World()
    world.edit(server=WRONG)
    world.run_some()
    assert world.status["state"] == "ServerInvalid"
    assert world.condition("Progressing")["message"] == SENTENCE
    assert made(world) == {f"{NAME}-rules"}
    assert [e.reason for e in world.events] == ["ServerInvalid"]
    world.edit(server=GOOD)
    world.serve(1)
    pod = world.obj("Deployment", f"{NAME}-v1")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"disk": "ssd"}


@pytest.mark.parametrize("answer", [INVALID, UNKNOWN, Denied(403, "Forbidden", "no", "APPLY")])
def test_what_the_api_server_refuses_is_told_in_its_words_and_tried_again(answer: ApiError):
    world = World(refusal=answer)
    world.edit(server=GOOD)
    world.run_some()
    assert world.status["state"] == "ServerInvalid"
    said = world.condition("Progressing")["message"]
    assert said == f"the API server refuses these pods: {answer.message}"
    assert made(world) == {f"{NAME}-rules"}
    assert world.last_check is not None
    assert world.last_check <= world.now + LOOK_AGAIN
    world.refusal = None
    world.serve(1)


def test_a_webhook_that_can_not_be_asked_stops_nothing():
    message = 'admission webhook "x" does not support dry run'
    world = World(refusal=Denied(400, "BadRequest", message, "APPLY"))
    world.edit(server=GOOD)
    world.serve(1)


@pytest.mark.parametrize("answer", [None, INVALID])
def test_with_a_template_that_can_not_be_all_serves_on_and_an_alert_goes_back(
    answer: ApiError | None,
):
    world = World()
    world.serve(1)
    world.target(2)
    world.run()
    assert world.split() == {1: 90, 2: 10}
    before = world.obj("Deployment", f"{NAME}-v1")["spec"]
    world.refusal = answer
    world.edit(server=WRONG if answer is None else GOOD)
    world.run_some()
    assert world.status["state"] == "ServerInvalid"
    assert world.split() == {1: 90, 2: 10}
    world.reconcile(world.alert(2))
    assert world.split() == {1: 100, 2: 0}
    if answer is None:  # else the API server refuses the write as it did before
        assert world.obj("Deployment", f"{NAME}-v1")["spec"] == before


def test_no_deadline_runs_while_a_template_can_not_be():
    world = World()
    world.serve(1)
    world.target(2)
    world.run()
    world.edit(server=WRONG)
    world.run_some()
    world.advance(1000)  # far past the progress deadline
    world.run_some()
    assert world.status["state"] == "ServerInvalid"
    world.dead.add(2)
    world.edit(server=GOOD)
    for _ in range(3):
        world.settle()
        world.reconcile()
    assert world.status["state"] == "WaitingForServer"
    assert world.status["candidate"]["version"] == 2
    world.dead.clear()
    world.serve(2)
