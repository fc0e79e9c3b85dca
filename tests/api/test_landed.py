"""Formats change only so that the programs of the last landed version still get along with ours."""

import copy
import json
from typing import Any

import landed
import pytest
from policy_api import skew
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import TrainingReport, decode
from policy_api.contract.run import RunConfig, RunTraining, parse_run
from policy_api.crdgen import KINDS, crd
from policy_api.v1alpha1.training import PolicyTrainingSpec
from pydantic import Field

RUNS = pytest.mark.parametrize("name", landed.names("run"))


@pytest.mark.parametrize(
    ("name", "model"), [("run", RunConfig), ("report", TrainingReport), ("policy", PolicyManifest)]
)
def test_a_file_between_programs_gains_only_fields_that_are_absent_when_unset(name, model):
    old, new = landed.load(f"schemas/{name}"), model.model_json_schema(by_alias=True)
    found = landed.breaks(old, new)
    assert found == [], "make a new field `X | None = None` (docs/adr/0022)"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_crd_gains_only_fields_that_are_absent_when_unset(kind):
    """Else the API server fills them into every object, and an older operator knows none."""
    old = landed.crd(kind.plural)
    new = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert landed.breaks(old, new) == []


def test_the_rule_sees_what_it_is_there_for():
    old = landed.crd("policytrainings")
    for change, said in (
        (
            {"default": 3, "type": "integer"},
            ".spec.compute.novel is new and not absent when it is unset",
        ),
        ({"type": "integer"}, None),
    ):
        new = copy.deepcopy(old)
        new["properties"]["spec"]["properties"]["compute"]["properties"]["novel"] = change
        assert landed.breaks(old, new) == ([said] if said else [])
    new = copy.deepcopy(old)
    spec = new["properties"]["spec"]
    del spec["properties"]["seed"]
    spec["properties"]["recipe"]["enum"].remove("SFT")
    spec["required"].append("tag")
    assert landed.breaks(old, new) == [
        ".spec.seed is gone",
        ".spec.recipe does not know SFT any more",
        ".spec.tag is required now",
    ]


class Novel(RunTraining):
    """A shape of a later version: one field as it must not be, one as it should."""

    labels: list[str] = Field(default_factory=list)
    note: str | None = None


def test_the_rule_holds_for_lists_in_files_too():
    old = RunConfig.model_json_schema(by_alias=True)
    new = copy.deepcopy(old)
    new["$defs"]["RunTraining"] = Novel.model_json_schema(by_alias=True)
    assert landed.breaks(old, new) == [".training.labels is new and not absent when it is unset"]


@RUNS
def test_an_older_operators_run_is_read_by_our_trainer(name):
    fixture = landed.load(name)
    run, ignored = parse_run(json.dumps(fixture["run"]).encode())
    assert ignored is None
    assert run.to_wire() == fixture["run"]


@RUNS
def test_an_older_manifest_is_read_by_our_operator(name):
    spec = landed.load(name)["spec"]
    read, unknown = skew.examine(PolicyTrainingSpec, spec, "spec")
    assert unknown is None
    assert read.to_wire() == spec


def test_our_report_is_read_by_an_older_operator():
    schema: Any = landed.load("schemas/report")
    text = (
        '{"outcome":"Completed","step":1,"metrics":[{"name":"a","value":1,"low":0}],'
        '"artifact":{"uri":"pvc://m/1","sha256":"0","version":1}}'
    )
    report = decode(text)
    assert report is not None
    assert list(landed.refusals(report.to_wire(), schema, schema)) == []
    newer = {**report.to_wire(), "tokens": 3, "outcome": "QuotaSpent"}
    assert list(landed.refusals(newer, schema, schema)) == [".tokens", ".outcome: 'QuotaSpent'"]
