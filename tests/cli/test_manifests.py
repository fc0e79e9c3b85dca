"""Manifests are checked as the API server would check them, with every fault in one sentence."""

import io
from pathlib import Path

import pytest
import yaml
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec
from policyctl import main as cli
from policyctl import manifests
from policyctl.errors import UserError

EXAMPLES = Path(__file__).parents[2] / "examples"
SPEC = {
    "policy": "plans",
    "recipe": "PlanPreference",
    "planPreference": {"epochs": 2},
    "data": [{"name": "train", "uri": "file://train.jsonl"}],
    "artifact": {"uri": "pvc://artifacts/policies"},
}


def document(name="prefs", **changes):
    spec = {k: v for k, v in {**SPEC, **changes}.items() if v is not None}
    meta = {"name": name, "namespace": "ml"}
    return {
        "apiVersion": "policyops.dev/v1alpha1",
        "kind": "PolicyTraining",
        "metadata": meta,
        "spec": spec,
    }


def write(folder, *documents, name="t.yaml"):
    file = folder / name
    file.write_text(yaml.safe_dump_all(documents))
    return str(file)


def test_every_training_of_a_file_is_read_and_other_kinds_are_left(tmp_path):
    file = write(tmp_path, {"kind": "Namespace"}, document(), None, document("second"))
    found = manifests.read([file])
    assert [(m.name, m.namespace, m.folder) for m in found] == [
        ("prefs", "ml", tmp_path),
        ("second", "ml", tmp_path),
    ]


def test_a_pattern_that_finds_no_value_is_told(tmp_path):
    bad = {"name": "score", "type": "Integer", "pattern": r"Score: (\d)(\d)"}
    file = write(tmp_path, document(answerSchema={"patterns": ["("], "fields": [bad]}))
    with pytest.raises(UserError) as caught:
        manifests.read([file])
    where = f"{file}: PolicyTraining prefs: spec.answerSchema"
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{where}.patterns[0]: '(' is not a regular expression: missing ), ")
    assert second.startswith(f"{where}.fields[0].pattern: ")
    assert second.endswith(" has 2 groups, wanted one: write others as (?:…)")


def test_a_kustomization_is_followed(tmp_path):
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", document())
    write(tmp_path / "base", {"resources": ["t.yaml"]}, name="kustomization.yaml")
    write(tmp_path, {"resources": ["base"]}, name="kustomization.yaml")
    assert [m.folder for m in manifests.read([str(tmp_path)])] == [tmp_path / "base"]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(document())))
    assert manifests.read(["-"])[0].name == "prefs"


@pytest.mark.parametrize("folder", sorted(p.parent for p in EXAMPLES.rglob("*training*.yaml")))
def test_the_examples_are_valid(folder):
    assert manifests.read([str(file) for file in sorted(folder.glob("*training*.yaml"))])


@pytest.mark.parametrize("example", sorted(p.parent.name for p in EXAMPLES.glob("*/serving")))
def test_what_an_example_serves_is_what_it_trains(example):
    trained = {
        document["metadata"]["name"]: document["spec"]["policy"]
        for file in (EXAMPLES / example).glob("[lt]*/training*.yaml")
        for document in yaml.safe_load_all(file.read_text())
    }
    kustomization = yaml.safe_load((EXAMPLES / example / "serving/kustomization.yaml").read_text())
    for name in kustomization["resources"]:
        for document in yaml.safe_load_all((EXAMPLES / example / "serving" / name).read_text()):
            if document["kind"] == "PolicyDeployment":
                spec = PolicyDeploymentSpec.model_validate(document["spec"])
                assert trained[spec.target.training.name] == spec.policy


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"planPreference": {"epoch": 2}},
            "spec.planPreference.epoch: there is no such field, did you mean 'epochs'?",
        ),
        ({"polcy": "x"}, "spec.polcy: there is no such field, did you mean 'policy'?"),
        ({"zzz": 1}, "spec.zzz: there is no such field"),
        (
            {"data": [{"name": "train", "uri": "file://x", "maxRow": 1}]},
            "spec.data[0].maxRow: there is no such field, did you mean 'maxRows'?",
        ),
        (
            {"planPreference": {"epochs": 0}},
            "spec.planPreference.epochs: Input should be greater than or equal to 1",
        ),
        ({"recipe": "SFT"}, "spec: set sft if and only if recipe is SFT"),
        ({"data": [{"name": "x", "uri": "file://x"}]}, "spec: data needs an input named train"),
        (
            {"exitCriteria": [{"metric": "auc"}]},
            "spec.exitCriteria[0]: set at least one of min, max, lowerBound, upperBound",
        ),
        ({"base": {"scratch": {}}}, "spec: this recipe starts from nothing: leave base unset"),
        (
            {"compute": {"resources": {"requests": {"cpu": 1.5}}}},
            (
                "spec.compute.resources.requests.cpu: 1.5 is no quantity such as 500m, 2, 4Gi or, "
                "in quotes, '1.5'"
            ),
        ),
        (
            {"compute": {"gpusPerNode": 1, "resources": {"limits": {"nvidia.com/gpu": 2}}}},
            (
                "spec.compute: gpusPerNode and nvidia.com/gpu of resources differ: set one of "
                "them, or both the same"
            ),
        ),
        (
            {"compute": {"gpusPerNode": 1, "resources": {"limits": {"nvidia.com/mig-1g.5gb": 1}}}},
            (
                "spec.compute: gpusPerNode asks for nvidia.com/gpu, and resources for other GPUs: "
                "leave one of them unset"
            ),
        ),
    ],
)
def test_faults_are_named_as_in_a_cluster(tmp_path, changes, sentence):
    with pytest.raises(UserError) as refused:
        manifests.read([write(tmp_path, document(**changes))])
    assert f"{tmp_path}/t.yaml: PolicyTraining prefs: {sentence}" in str(refused.value).splitlines()


@pytest.mark.parametrize(
    "compute",
    [
        {"gpusPerNode": 2, "resources": {"limits": {"nvidia.com/gpu": "2"}}},
        {"resources": {"limits": {"amd.com/gpu": 1, "cpu": "1.5"}, "requests": {"memory": "4Gi"}}},
    ],
)
def test_resources_that_a_cluster_takes(tmp_path, compute):
    budget = {"maxUSD": 5, "usdPerGPUHour": 1}
    assert manifests.read([write(tmp_path, document(compute=compute, budget=budget))])


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("v1.2", {}, "metadata.name: must have no dots: a PolicyTraining's Jobs"),
        ("t" * 47, {}, "metadata.name: Too long: may not be more than 46 bytes"),
        ("Prefs", {}, "metadata.name: a lowercase RFC 1123 subdomain must consist of"),
        (
            "c",
            {
                "recipe": "CQL",
                "planPreference": None,
                "cql": {},
                "base": {"training": {"name": "c"}},
            },
            "spec.base.training.name: a PolicyTraining can't wait for itself: name another one",
        ),
        (
            "c",
            {
                "recipe": "CQL",
                "planPreference": None,
                "cql": {},
                "base": {"training": {"name": "a.b"}},
            },
            "spec.base.training: no PolicyTraining has such a name: it has no dots",
        ),
        (
            "4nodes",
            {
                "recipe": "SFT",
                "planPreference": None,
                "sft": {},
                "base": {"scratch": {}},
                "compute": {"nodes": 4},
            },
            "metadata.name: must begin with a letter when compute.nodes is above 1",
        ),
    ],
)
def test_names_are_judged_as_in_a_cluster(tmp_path, name, changes, sentence):
    with pytest.raises(UserError) as refused:
        manifests.read([write(tmp_path, document(name, **changes))])
    assert f"PolicyTraining {name}: {sentence}" in str(refused.value)


@pytest.mark.parametrize("name", ["4nodes", "t" * 46, "a-b-1"])
def test_names_that_a_cluster_takes(tmp_path, name):
    assert manifests.read([write(tmp_path, document(name))])[0].name == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "t.yaml is no YAML"),
        ("kind: Namespace", "no PolicyTraining in"),
        ("kind: PolicyTraining", "has no metadata.name"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, text, sentence):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        manifests.read([str(tmp_path / "t.yaml")])


def test_patches_are_left_to_kustomize(tmp_path):
    write(tmp_path, {"resources": [], "patches": []}, name="kustomization.yaml")
    with pytest.raises(UserError, match=r"kubectl kustomize .* \| policyctl"):
        manifests.read([str(tmp_path)])


def test_the_command_prints_every_fault_and_exits_2(tmp_path, capsys):
    faulty = [document(polcy="x"), document("other", zzz=1)]
    assert cli.main(["validate", write(tmp_path, *faulty)]) == cli.EXIT_USER_ERROR
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 2)
    assert cli.main(["validate", write(tmp_path, document())]) == 0
    assert capsys.readouterr().out == "PolicyTraining prefs is valid\n"
    assert cli.main(["validate", str(tmp_path / "none.yaml")]) == cli.EXIT_USER_ERROR
    assert "cannot read" in capsys.readouterr().err
