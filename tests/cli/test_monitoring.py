"""`policyctl monitor` and `policyctl advisor`."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import yaml
from cli.test_log import ME, decision, engine, file  # noqa: F401 - fixtures
from cli.test_serving import serving  # noqa: F401 - a fixture
from policy_records.entries import OutcomeEntry
from policy_records.writing import write
from policyctl import main as cli
from policyctl.monitoring import Expected, Share, Span, degraded, report

from models import golden

NOBODY = Share(0, 0)


@pytest.mark.parametrize(
    ("yes", "known", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 100, 0.7222, 0.8749)],
)
def test_intervals_are_wilsons(yes, known, low, high):
    assert Share(yes, known).interval == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("share", "expected", "worse"),
    [
        (Share(82, 100), 0.82, False),
        (Share(70, 100), 0.82, False),  # 14.6 %
        (Share(60, 100), 0.82, True),
        (Share(2, 4), 0.82, None),  # may be chance
        (NOBODY, 0.82, None),
        (Share(1, 2), None, None),
        (Share(1, 2), 0.0, None),
    ],
)
def test_worse_is_more_than_may_be_and_more_than_chance(share, expected, worse):
    assert degraded(share, expected, 0.15) is worse


def test_a_report_says_what_to_do():
    span = Span(45, 3, Share(38, 45), Share(27, 45), Share(2, 3))
    expected = Expected.of(
        {"success_rate": 0.82, "success_rate_baseline_random": 0.3}
        | {"success_rate_baseline_highest_success": 0.6}
    )
    lines = list(report(span, expected, 0.15))
    assert lines[:6] == [
        "decisions made       45, of which the baseline made 3",
        "followed             0.84 [0.71, 0.92], 38 of 45",
        "success rate         0.60 [0.45, 0.73], 27 of 45",
        "baseline, here       0.67 [0.21, 0.94], 2 of 3: -7 points",
        "highest_success      0.60 in training: +0 points",
        "expected             0.82: 27% worse",
    ]
    assert lines[6] == "The policy has become worse. What to do:"
    assert list(report(Span(0, 0, NOBODY, NOBODY, NOBODY), expected, 0.15)) == [
        "decisions made       0",
        "followed             not known: no outcome says it",
        "success rate         not known: no outcome says it",
    ]


def test_the_log_says_how_a_policy_does(engine, capsys):  # noqa: F811
    now = datetime.now(UTC)
    entries = [decision(at=now - timedelta(hours=hour)) for hour in range(60)]
    old = decision(at=now - timedelta(days=8))
    told = [
        OutcomeEntry(entry.id, now, success=place % 5 == 0, followed=True)
        for place, entry in enumerate([*entries, old])
    ]
    write(engine, ME, [*entries, old, *told])
    folder = str(golden.FOLDER / "QNetwork")
    assert cli.main(["monitor", "--artifact", folder]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "agents, the last 7 days"
    assert lines[2].startswith("followed             1.00 [")
    assert lines[3].endswith("12 of 60")
    assert lines[5] == "expected             0.55: 64% worse"
    assert cli.main(["monitor", "--days", "30", "--max-degradation", "90"]) == 0


def test_an_assistant_can_do_what_its_file_says(serving, tmp_path, capsys):  # noqa: F811
    child = serving(golden.FOLDER / "QNetwork", "--port", "0")
    server = child.stdout.readline().split()[5].removesuffix("/v1/decisions")
    output = tmp_path / "agents" / "policy-advisor.md"
    arguments = ["advisor", str(golden.FOLDER / "QNetwork"), "--server", server]
    assert cli.main([*arguments, "--output", str(output)]) == 0
    text = output.read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["name"] == "policy-advisor"
    assert "agents version 1" in head["description"]
    assert "| `task` | one of `api`, `login`, `page` |" in text
    assert "| backend | 212 times | 54% |" in text
    asks, tells = [line for line in text.splitlines() if line.startswith("curl ")]
    answer = json.loads(subprocess.run(["sh", "-c", asks], check=True, capture_output=True).stdout)
    assert len(answer["ranking"]) == 3
    tells = tells.replace("DECISION_ID", answer["decisionId"])
    told = json.loads(subprocess.run(["sh", "-c", tells], check=True, capture_output=True).stdout)
    assert told == {"decisionId": answer["decisionId"]}
    found = httpx.get(f"{server}/v1/decisions/{answer['decisionId']}").json()
    assert found["outcome"]["followed"] is True


def test_only_a_policy_with_actions_advises(capsys):
    assert cli.main(["advisor", str(golden.FOLDER / "PlanPreference")]) == 2
    assert "has no actions of its own" in capsys.readouterr().err
