"""From data to a served, rated and retrained model of plans, on a machine without torch."""

import json
import subprocess
import sys

import httpx
import pytest
from cli.test_examples import EXAMPLES
from cli.test_serving import serving  # noqa: F401 - a fixture
from policyctl.local import environment

# Where torch is installed it is hidden: nothing of this may need it.
WITHOUT = (
    "import sys; sys.modules['torch'] = None; from policyctl import main; sys.exit(main.main())"
)
PLANS = EXAMPLES / "plan-preference" / "laptop"


@pytest.fixture
def policyctl(tmp_path):
    """Run a command in a folder of its own; return what it printed."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "policyctl", *map(str, arguments)],
            env=environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_plans_are_served_rated_and_trained_again(policyctl, serving, tmp_path):  # noqa: F811
    data = "volumes/artifacts/data/plan-preference"
    policyctl("data", "synthesize", "plan-preference", "--output", data)
    said = policyctl("train", PLANS, "--local")
    assert "plan-preference version 1, accepted" in said
    child = serving(tmp_path / "volumes/artifacts/policies/plan-preference/1", "--port", "0")
    server = child.stdout.readline().split()[5].removesuffix("/v1/decisions")
    plans = ["Rewrite it all.", "Write tests first, then change the parser in small steps."]
    for run in range(3):
        asked = {"candidates": plans, "runId": f"run-{run}"}
        chosen = httpx.post(f"{server}/v1/decisions", json=asked).json()["action"]
        policyctl("feedback", "worse", "--run", f"run-{run}", "--server", server)
    rows = policyctl("log", "export", "--for", "PlanPreference")
    assert [json.loads(row) for row in rows.splitlines()] == [
        {"plan": chosen, "feedback": "worse", "tags": ["neg"]}
    ] * 3
    with (tmp_path / data / "train.jsonl").open("a") as file:
        file.write(rows)
    said = policyctl("train", PLANS, "--local", "--again")
    assert "plan-preference version 2, accepted" in said
    made = json.loads(
        (tmp_path / "volumes/artifacts/policies/plan-preference/2/policy.json").read_text()
    )
    assert {d["name"]: d["rows"] for d in made["data"]}["train"] == 1203
