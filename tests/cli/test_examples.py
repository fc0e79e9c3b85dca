"""Each example's laptop overlay, trained whole: every exit criterion of its manifests is met."""

from pathlib import Path

import pytest
from policy_trainer import synthesize
from policyctl import main as cli

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("example", "count", "versions"),
    [
        ("agent-selection", 6000, {"agent-selection": 1}),
        ("flowlens", 1200, {"flowlens": 2}),
        ("plan-preference", 1200, {"plan-preference": 1}),
        (
            "retention",
            1200,
            {
                "retention-acceptance": 1,
                "retention-offers": 1,
                "retention-reward": 1,
                "retention-risk": 1,
                "retention-text": 2,
            },
        ),
    ],
)
def test_an_example_runs_whole_on_a_laptop(tmp_path, monkeypatch, example, count, versions):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "volumes" / "artifacts" / "data" / example
    synthesize.main([example, "--count", str(count), "--output", str(output)])
    assert cli.main(["train", str(EXAMPLES / example / "laptop"), "--local"]) == 0
    store = tmp_path / "volumes" / "artifacts" / "policies"
    found = {p.name: len(list(p.glob("*/policy.json"))) for p in store.iterdir()}
    assert found == versions
    if example == "agent-selection":  # another team begins with what this one exported
        theirs = output.with_name("agent-selection-new-team")
        synthesize.main([example, "--count", str(count), "--seed", "7", "--output", str(theirs)])
        assert cli.main(["train", str(EXAMPLES / example / "transfer"), "--local"]) == 0
