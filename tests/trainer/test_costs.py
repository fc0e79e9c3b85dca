"""A version knows what it cost, and what those cost that it was made from."""

import json

import pytest
from policy_api.contract.artifact import VersionCost
from policy_trainer import costs
from trainer.worlds import config, manifest, reference

pytestmark = pytest.mark.trainer


def told(policy, version, seconds=3600, usd=None, estimated=None):
    cost = {"runSeconds": seconds, "cpuSeconds": seconds, "usd": usd, "estimatedUSD": estimated}
    made = {"policy": policy, "version": version, "recipe": "SFT", "cost": cost}
    return VersionCost.model_validate(made)


def artifact(root, policy, version, *parts):
    """Write a version's manifest with these costs; return how a run refers to it."""
    made = manifest(policy=policy, version=version, costs=parts)
    folder = root / policy / str(version)
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text(json.dumps(made.to_wire()))
    return reference(folder, version, policy)


def test_a_version_lists_what_it_was_made_from_once_and_itself_last(tmp_path):
    sft = told("text", 1, usd=3)
    start = artifact(tmp_path, "text", 1, sft)
    reward = artifact(tmp_path, "reward", 2, sft, told("reward", 2, usd=1))
    other = artifact(tmp_path, "text", 7, told("text", 7, usd=99))
    run = config(
        tmp_path,
        "u",
        base={"artifact": start},
        references=[
            {"name": "reward", "artifact": reward},
            {"name": "version:7", "artifact": other},  # only compared with
        ],
        budget={"usdPerCPUHour": 3600, "estimatedUSD": 50},
        spentSeconds=30,
    )
    found = costs.of(run, 4, seconds=12.4)
    assert [(c.policy, c.version) for c in found] == [
        ("text", 1),
        ("reward", 2),
        ("review-forge", 4),
    ]
    assert (found[-1].cost.run_seconds, found[-1].cost.usd) == (42, 42)


def test_the_table_sets_estimates_against_what_it_cost_and_adds_up():
    made = (
        told("text", 1, seconds=1800, usd=0.5, estimated=1),
        told("reward", 2, usd=2, estimated=1),
        told("old", 1),
    )
    assert costs.table(made).rows == [
        ["text version 1, SFT", 0.5, 0, 0.5, 1, 0.5, "within the estimate"],
        ["reward version 2, SFT", 1, 0, 1, 1, 2, "over the estimate"],
        ["old version 1, SFT", 1, 0, 1, None, None, ""],
        ["total", 2.5, 0, 2.5, 2, 2.5, "over the estimate"],
    ]


def test_one_version_alone_has_no_total():
    (row,) = costs.table((told("text", 1),)).rows
    assert row[0] == "text version 1, SFT"


@pytest.mark.parametrize(("given", "usd"), [(None, 20), ("0", 20), ("2500", 50)])
def test_a_pod_is_priced_by_the_cpus_that_it_was_given(tmp_path, monkeypatch, given, usd):
    monkeypatch.delenv("POLICYOPS_CPU_MILLIS", raising=False)
    if given is not None:
        monkeypatch.setenv("POLICYOPS_CPU_MILLIS", given)
    run = config(tmp_path, "u", budget={"usdPerCPUHour": 3600}, compute={"nodes": 2})
    assert costs.of(run, 1, seconds=10)[-1].cost.usd == usd
