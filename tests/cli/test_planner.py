"""The example's planner: a beam search, and one alternative to a plan that scores low."""

import subprocess
import sys

import pytest
from cli.test_serving import serving  # noqa: F401 - a fixture
from policy_examples.planner import beam, better, written
from policyctl.local import environment

from models import golden

WORTH = {"a": 3.0, "b": 2.0, "c": 1.0, "d": -5.0}


def score(plans):
    return [sum(WORTH.get(word, 0.0) for word in plan.replace(";", "").split()) for plan in plans]


def test_the_best_of_each_step_go_on():
    asked = []
    found = beam(lambda plans: asked.append(len(plans)) or score(plans), "abcd", width=2, length=3)
    assert sorted(found[3::6]) == ["a", "b", "c"]
    assert asked == [4, 2 * 3, 2 * 2]


def test_a_plan_has_no_step_twice():
    assert beam(score, "ab", length=9) in {"1. a; 2. b", "1. b; 2. a"}


@pytest.mark.parametrize(
    ("plan", "other", "chosen", "asked"),
    [("a", "b", "a", 0), ("c", "b", "b", 1), ("c", "d", "c", 1), ("c", "c", "c", 1)],
)
def test_an_alternative_is_tried_where_a_plan_scores_low(plan, other, chosen, asked):
    tried = []
    found = better(score, plan, lambda: tried.append(other) or other, least=2.5)
    assert (found, len(tried)) == (chosen, asked)


def test_it_asks_a_server_and_names_its_run(serving, tmp_path):  # noqa: F811
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0")
    server = child.stdout.readline().split()[5].removesuffix("/v1/decisions")

    def plan(*more):
        command = [sys.executable, "-m", "policy_examples.planner", "add a login"]
        done = subprocess.run(
            [*command, "--server", server, *more],
            env=environment(),
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    text, told = plan()
    assert text.count(";") == 3
    run_id = told.split()[-1]
    kept, _ = plan("--plan", "a short and tested plan")
    assert kept == "a short and tested plan"
    rows = subprocess.run(
        [sys.executable, "-m", "policyctl", "log", "export"],
        env=environment(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert run_id in rows
    assert "Plan how to add a login." in rows
    assert written(["x"]) == "1. x"
