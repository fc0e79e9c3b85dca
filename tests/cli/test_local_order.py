"""Trainings run after those that they need, with the paths that this machine has."""

import pytest
from cli.test_manifests import document, write
from policyctl import local, manifests
from policyctl.errors import UserError


def read(folder, *documents):
    return manifests.read([write(folder, *documents)])


def cql(name, base=None):
    fields = {"recipe": "CQL", "planPreference": None, "cql": {}}
    return document(name, **fields, base={"training": {"name": base}} if base else None)


def test_a_training_comes_after_its_base(tmp_path):
    found = local.ordered(read(tmp_path, cql("c", "b"), cql("b", "a"), cql("a"), cql("d", "other")))
    assert [m.name for m in found] == ["a", "d", "b", "c"]


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        ([cql("a", "b"), cql("b", "a")], "these PolicyTrainings can never start: a waits for b, b"),
        (
            [cql("d", "a"), cql("a", "b"), cql("b", "c"), cql("c", "a")],
            "these PolicyTrainings can never start: a waits for b, b for c, c for a",
        ),
        ([cql("a"), cql("a")], "two PolicyTrainings have the same name"),
    ],
)
def test_what_has_no_order_is_refused(tmp_path, documents, sentence):
    with pytest.raises(UserError) as refused:
        local.ordered(read(tmp_path, *documents))
    assert str(refused.value).startswith(sentence)
    assert len(str(refused.value).splitlines()) == 1


def test_uris_are_found_in_folders(tmp_path):
    path = local.Place(tmp_path / "v").path_of(tmp_path / "m")
    assert path("pvc://claim/a/b.jsonl") == str(tmp_path / "v" / "claim" / "a" / "b.jsonl")
    assert path("configmap://name/key.csv") == str(tmp_path / "v" / "name" / "key.csv")
    assert path("file://data/x.csv") == str(tmp_path / "m" / "data" / "x.csv")
    assert path("file:///data/x.csv") == "/data/x.csv"
    assert path("s3://bucket/x") == "s3://bucket/x"


def test_pods_become_processes_of_this_machine(tmp_path):
    (found,) = read(
        tmp_path,
        document(
            recipe="SFT",
            planPreference=None,
            sft={},
            base={"scratch": {}},
            compute={"nodes": 2, "processesPerNode": 2},
        ),
    )
    run = local.config(found, local.Place(tmp_path))
    assert (run.compute.nodes, run.compute.processes_per_node) == (1, 4)
    assert run.store.path == str(tmp_path / "artifacts" / "policies")


def test_a_base_that_is_not_there_is_named(tmp_path):
    (found,) = read(tmp_path, cql("c", "before"))
    with pytest.raises(UserError, match=r"PolicyTraining before has made nothing in .*: train it"):
        local.config(found, local.Place(tmp_path))
