"""What kubectl shows of the kinds: conditions of the CRDs, columns, explain."""

import pytest
from controlplane import ControlPlane
from integration.client import Api
from integration.objects import DIGEST, deployment, training, version

CRDS = [f"{p}.policyops.dev" for p in ("policytrainings", "policydeployments", "policyversions")]


@pytest.mark.parametrize("name", CRDS)
def test_the_schema_is_structural_and_its_rules_are_accepted(api: Api, name: str) -> None:
    """A rule whose cost is over the budget is refused together with its CRD."""
    crd = api.get("CustomResourceDefinition", None, name)
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert set(conditions) <= {"Established", "NamesAccepted"}


def rows(text: str) -> list[dict[str, str]]:
    """Read kubectl's table by the places of its header's words."""
    lines = text.splitlines()
    head = lines[0].split()
    starts = [lines[0].index(word) for word in head]
    ends = [*starts[1:], None]
    return [
        {w: line[a:b].strip() for w, a, b in zip(head, starts, ends, strict=True)}
        for line in lines[1:]
    ]


def test_columns_of_a_training(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    api.create(training(namespace, tag="exp_001"))
    api.patch_status(
        "PolicyTraining",
        namespace,
        "forge",
        {
            "state": "Running",
            "version": 3,
            "progress": {"step": 40, "maxSteps": 100, "percent": 40, "remainingSeconds": 90},
            "cost": {"usd": 1.25},
            "attempts": [{"index": 0, "job": "forge-0"}, {"index": 1, "job": "forge-1"}],
        },
    )
    (row,) = rows(control_plane.kubectl("get", "ptrain", "-n", namespace))
    assert row.pop("AGE")
    assert row == {
        "NAME": "forge",
        "POLICY": "forge",
        "RECIPE": "SFT",
        "VERSION": "3",
        "STATE": "Running",
        "STEP": "40",
        "DONE": "40",
        "COST": "1.25",
    }
    (wide,) = rows(control_plane.kubectl("get", "ptrain", "-n", namespace, "-o", "wide"))
    assert (wide["LEFT"], wide["ATTEMPTS"], wide["TAG"]) == ("90", "1", "exp_001")


def test_columns_of_a_deployment(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    at = "2026-01-02T03:04:05Z"
    api.create(deployment(namespace))
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "m"}
    api.patch_status(
        "PolicyDeployment",
        namespace,
        "forge",
        {
            "state": "Canary",
            "stable": {"version": 1, "weight": 90, "since": at},
            "candidate": {
                "version": 2,
                "weight": 10,
                "stepIndex": 0,
                "stepName": "canary",
                "startedAt": at,
            },
            "conditions": [{**ready, "lastTransitionTime": at}],
        },
    )
    (row,) = rows(control_plane.kubectl("get", "pdep", "-n", namespace))
    assert row.pop("AGE")
    assert row == {
        "NAME": "forge",
        "POLICY": "forge",
        "STABLE": "1",
        "CANDIDATE": "2",
        "STEP": "canary",
        "WEIGHT": "10",
        "STATE": "Canary",
        "READY": "True",
    }


def test_columns_of_a_version(control_plane: ControlPlane, api: Api, namespace: str) -> None:
    at = "2026-01-02T03:04:05Z"
    api.create(version(namespace, 3))
    api.patch_status(
        "PolicyVersion",
        namespace,
        "forge-v3",
        {
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "reason": reason,
                    "message": "m",
                    "lastTransitionTime": at,
                }
                for kind, reason in (("Accepted", "Met"), ("Rejected", "HighErrorRate"))
            ],
            "serving": [{"deployment": "forge", "role": "stable", "weight": 100}],
        },
    )
    (row,) = rows(control_plane.kubectl("get", "pver", "-n", namespace))
    assert row.pop("AGE")
    assert row == {
        "NAME": "forge-v3",
        "POLICY": "forge",
        "VERSION": "3",
        "ACCEPTED": "True",
        "SERVING": "forge",
        "REJECTED": "HighErrorRate",
        "TRAINING": "forge",
    }
    assert DIGEST not in control_plane.kubectl("get", "pver", "-n", namespace, "-o", "wide")


def test_all_kinds_are_listed_as_policies(control_plane: ControlPlane, api: Api) -> None:
    names = control_plane.kubectl("api-resources", "--categories=policies", "-o", "name").split()
    assert sorted(names) == sorted(CRDS)


def test_explain_is_the_manual(control_plane: ControlPlane, api: Api) -> None:
    spec = control_plane.kubectl("explain", "policytraining.spec")
    assert "What to train, from what, where, and when it counts as a success." in spec
    for line in (
        "policy\t<string> -required-",
        "recipe\t<string> -required-",
        "enum: SFT, DPO, RewardModel, GRPO",
        "exitCriteria\t<[]Object>",
        "All must be met, or the training ends as onUnmet says.",
    ):
        assert line in spec, spec
    assert "<no description>" not in spec
    step = control_plane.kubectl("explain", "policydeployment.spec.rollout.steps.weight")
    assert "The candidate's part of the traffic, in percent." in step


@pytest.mark.parametrize("kind", ["policytraining", "policydeployment", "policyversion"])
def test_no_field_is_without_description(control_plane: ControlPlane, api: Api, kind: str) -> None:
    for part in ("spec", "status"):
        text = control_plane.kubectl("explain", f"{kind}.{part}", "--recursive=false")
        assert "<no description>" not in text
