"""Each example's laptop overlay, trained whole: every exit criterion of its manifests is met."""

from pathlib import Path

import pytest
from policy_examples import synthesize
from policyctl import main as cli

EXAMPLES = Path(__file__).parents[2] / "examples"

# What is prepared of the data that was made, as in the examples' data jobs.
PREPARED = {
    "flowlens": [
        ("SFT", "decisions.jsonl", ["--train", "90"]),
        ("DPO", "labeled_decisions.jsonl", ["--train", "70", "--validation", "30"]),
    ]
}

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
    synthesize.make(example, output, count)
    for recipe, file, percents in PREPARED.get(example, ()):
        wanted = ["--output", str(output / recipe.lower()), "--test", "0", *percents]
        assert cli.main(["data", "prepare", recipe, str(output / file), *wanted]) == 0
    assert cli.main(["train", str(EXAMPLES / example / "laptop"), "--local"]) == 0
    store = tmp_path / "volumes" / "artifacts" / "policies"
    found = {p.name: len(list(p.glob("*/policy.json"))) for p in store.iterdir()}
    assert found == versions
    if example == "agent-selection":  # another team begins with what this one exported
        theirs = output.with_name("agent-selection-new-team")
        synthesize.make(example, theirs, count, seed=7)
        assert cli.main(["train", str(EXAMPLES / example / "transfer"), "--local"]) == 0
