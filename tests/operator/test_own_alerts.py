"""The alerts on what the project runs itself: Prometheus takes them, and they fire in time."""

import json
import subprocess
from pathlib import Path
from typing import Any

import binaries
import pytest
import yaml
from policy_api import keys

RULES = Path(__file__).parents[2] / "manifests" / "monitoring" / "rules.yaml"
LABELS = 'namespace="ml",pod="a",policy="plans",version="1"'
ABOUT = 'namespace="ml", policy="plans", severity="warning", version="1"'

CASES = [
    (keys.METRIC_LOG_DROPPED, "0x20", "DecisionLogDropped", False),
    (keys.METRIC_LOG_DROPPED, "0x9 5x10", "DecisionLogDropped", True),
    (keys.METRIC_LOG_SPOOL, "0x2 100x3 0x20", "DecisionLogWaits", False),
    (keys.METRIC_LOG_SPOOL, "0x2 100x20", "DecisionLogWaits", True),
    (keys.METRIC_SERVING_CONFIG_ERRORS, "0x20", "ServingConfigRefused", False),
    (keys.METRIC_SERVING_CONFIG_ERRORS, "0x9 1x10", "ServingConfigRefused", True),
]


def test_each_is_tried():
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == {alert for _, _, alert, fires in CASES if fires}
    # It rolls nothing back: the webhook takes alerts with a deployment alone.
    assert all("policyops_deployment" not in rule["labels"] for rule in rules)


@pytest.mark.parametrize(("metric", "values", "alert", "fires"), CASES)
def test_they_fire_when_they_should(tmp_path: Path, metric: str, values: str, alert: str, *, fires):
    tool = binaries.path("promtool")
    if not tool.exists():
        pytest.skip("no promtool: `make tools` builds it")
    firing = f'ALERTS{{alertname="{alert}", alertstate="firing", {ABOUT}}}'
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": f"{metric}{{{LABELS}}}", "values": values}],
        "promql_expr_test": [
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": "15m",
                "exp_samples": [{"labels": firing, "value": 1}] if fires else [],
            }
        ],
    }
    file = tmp_path / "test.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}))
    done = subprocess.run(
        [tool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
