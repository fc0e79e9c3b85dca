"""The report stands alone, shows every chart and table, and is the same for the same numbers."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from policy_trainer import bundle
from policy_trainer.figures import Chart, ChartKind, Series, Table
from trainer import agents
from trainer.worlds import config, manifest

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

SHARES = Series("policy", ["a", "b"], [0.2, 0.8], [0.1, 0.7], [0.3, 0.9])
CHARTS = [
    Chart("loss", "Loss", "step", "loss", [Series("loss", [1, 2, 3], [3.0, 2.0, 1.5])]),
    Chart("roc", "ROC", "x", "y", [SHARES, Series("chance", [0, 1], [0, 1])], ChartKind.STEP),
    Chart("bars", "Bars", "", "share", [SHARES, SHARES], ChartKind.BAR),
    Chart(
        "long",
        "Long names",
        "",
        "share",
        [Series("s", [f"a long name {n}" for n in range(5)], [0.1] * 5)],
        ChartKind.BAR,
    ),
]
TABLES = [Table("policies", "Policies <&>", ["name", "value"], [["x<y", 0.123456], ["none", None]])]


class Page(HTMLParser):
    """Collects what a page loads, and how its elements nest."""

    def __init__(self):
        super().__init__()
        self.loads, self.count = [], {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.loads += [
            v for k, v in attrs if k in {"src", "data"} or (k == "href" and tag == "link")
        ]


def write(folder, **changes):
    bundle.write(folder, manifest(**changes), CHARTS, TABLES)
    return (folder / bundle.REPORT).read_text()


def test_the_report_needs_nothing_else_and_has_every_part(tmp_path):
    text = write(tmp_path / "b")
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert page.count["svg"] == page.count["figure"] == len(CHARTS)
    assert "<script>" not in text
    assert "x&lt;y" in text
    assert "Policies &lt;&amp;&gt;" in text
    assert re.search(r"not accepted</span>", text)
    assert "0.8765" in text
    assert "12,345" in text


def test_each_chart_and_table_is_also_a_file(tmp_path):
    write(tmp_path / "b")
    for chart in CHARTS:
        assert (tmp_path / "b" / f"{chart.name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with (tmp_path / "b" / "bars.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [
        ["series", "x", "share", "low", "high"],
        ["policy", "a", "0.2", "0.1", "0.3"],
    ]
    with (tmp_path / "b" / "policies.csv").open() as file:
        assert list(csv.reader(file))[1] == ["x<y", "0.123456"]


def test_the_same_numbers_make_the_same_files(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name)
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in "ab")
    assert first == second


def test_a_training_adds_it_to_its_artifact_when_asked(attempt, tmp_path):
    agents.write(tmp_path / "train.jsonl", 300, seed=1)
    agents.write(tmp_path / "validation.jsonl", 300, seed=2)
    store = {"uri": "pvc://a", "path": str(tmp_path / "policies"), "bundle": True}
    block = {"maxSteps": 200, "hidden": [8], "successReward": 5}
    report = attempt(config(tmp_path, "u", recipe="CQL", sft=None, cql=block, base={}, store=store))
    assert report.outcome is Outcome.COMPLETED, report.message
    folder = tmp_path / "policies" / "review-forge" / "1"
    made = PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())
    listed = {file.path for file in made.files}
    assert {"bundle/report.html", "bundle/mean_reward.png", "bundle/policies.csv"} <= listed
    assert "highest_success" in (folder / "bundle" / "report.html").read_text()
    assert json.loads((folder / "q_policy.json").read_text())["performance"]
