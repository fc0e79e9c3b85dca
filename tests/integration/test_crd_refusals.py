"""What the API server refuses, in the words that a person reads; no operator runs here."""

from typing import Any

import pytest
from integration.bad_objects import (
    BAD_DEPLOYMENTS,
    BAD_TRAININGS,
    BAD_VERSIONS,
    CLEAR,
    REWARD,
    endpoint,
    grpo,
    judged,
)
from integration.client import Api, Refused, until
from integration.objects import deployment, training, version
from policy_api.crdgen import KINDS, crd

Obj = dict[str, Any]


def refused(api: Api, obj: Obj) -> str:
    """Return the sentence with which the object is refused."""
    with pytest.raises(Refused) as caught:
        api.create(obj, fieldValidation="Strict")
    assert caught.value.status in (400, 422), caught.value
    return caught.value.message


def ids(cases: list[tuple[Obj, str]]) -> list[str]:
    return [sentence[:60] for _, sentence in cases]


@pytest.mark.parametrize(("spec", "sentence"), BAD_TRAININGS, ids=ids(BAD_TRAININGS))
def test_bad_training_is_refused(api: Api, spec: Obj, sentence: str) -> None:
    assert sentence in refused(api, training("default", **spec))


@pytest.mark.parametrize(("spec", "sentence"), BAD_DEPLOYMENTS, ids=ids(BAD_DEPLOYMENTS))
def test_bad_deployment_is_refused(api: Api, spec: Obj, sentence: str) -> None:
    assert sentence in refused(api, deployment("default", **spec))


@pytest.mark.parametrize(("spec", "sentence"), BAD_VERSIONS, ids=ids(BAD_VERSIONS))
def test_bad_version_is_refused(api: Api, spec: Obj, sentence: str) -> None:
    assert sentence in refused(api, version("default", 1, **spec))


@pytest.mark.parametrize(
    ("obj", "sentence"),
    [
        (training("default", "t" * 47), "metadata.name: Too long: may not be more than 46 bytes"),
        (deployment("default", "d" * 41), "metadata.name: Too long: may not be more than 40 bytes"),
        (
            training("default", "v1.2"),
            "metadata.name: Invalid value: must have no dots: a PolicyTraining's Jobs and their",
        ),
        (
            training("default", "4nodes", compute={"nodes": 4}),
            "metadata.name: Invalid value: must begin with a letter when compute.nodes is above 1",
        ),
        (
            deployment("default", "my.forge"),
            "metadata.name: Invalid value: must begin with a letter and have no dots",
        ),
        (deployment("default", "2nd"), "must begin with a letter and have no dots"),
        (
            training("default", "forge", base={"training": {"name": "forge"}}),
            "spec.base.training.name: Invalid value: a PolicyTraining can't wait for itself",
        ),
        (
            training("default", "forge", **judged(training={"name": "forge"})),
            "spec.judge.training.name: Invalid value: a PolicyTraining can't wait for itself",
        ),
        (
            training(
                "default", "a", **grpo(), referenceModels={"reward": {"training": {"name": "a"}}}
            ),
            "spec.referenceModels.reward.training.name: Invalid value: a PolicyTraining can't wait",
        ),
        (
            training("default", base={"training": {"name": "a.b"}}),
            "no PolicyTraining has such a name: it has no dots and at most 46 characters",
        ),
        (training("default", seeed=1), 'unknown field "spec.seeed"'),
        (training("default", sft={"epoch": 1}), 'unknown field "spec.sft.epoch"'),
        (deployment("default", moode="Primary"), 'unknown field "spec.moode"'),
    ],
)
def test_bad_names_and_unknown_fields_are_refused(api: Api, obj: Obj, sentence: str) -> None:
    assert sentence in refused(api, obj)


def test_an_object_from_before_the_rules_about_names_can_still_be_changed(
    api: Api, namespace: str
) -> None:
    """A copy of the kind, first as it was before those rules."""
    definition = crd(KINDS[0])
    group, plural = "before.example.com", "policytrainings"
    definition["metadata"] = {"name": f"{plural}.{group}"}
    definition["spec"]["group"] = group
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = schema.pop("x-kubernetes-validations")
    api.create(definition)
    path = f"/apis/{group}/v1alpha1/namespaces/{namespace}/{plural}"
    old = {**training(namespace, "v1.2"), "apiVersion": f"{group}/v1alpha1"}

    def create(obj: Obj, **options: Any) -> str:
        """Return the refusal, or nothing."""
        try:
            api.call("POST", path, obj, **options)
        except Refused as caught:
            return caught.message
        return ""

    until("the kind is served", lambda: not create(old))
    patch = {"spec": {"versions": [{**definition["spec"]["versions"][0]}]}}
    patch["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = rules
    api.patch("CustomResourceDefinition", None, definition["metadata"]["name"], patch)

    other = {**old, "metadata": {"name": "v1.3"}}
    until(
        "the rules are in force",
        lambda: "must have no dots" in create(other, params={"dryRun": "All"}),
    )
    headers = {"Content-Type": "application/merge-patch+json"}
    for where, change in (
        ("", {"metadata": {"labels": {"a": "b"}}, "spec": {"suspend": True}}),
        ("/status", {"status": {"state": "Failed"}}),
    ):
        changed = api.call("PATCH", f"{path}/v1.2{where}", change, headers=headers)
        assert changed["metadata"]["name"] == "v1.2"
    api.delete("CustomResourceDefinition", None, definition["metadata"]["name"])


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        (
            {"policy": "other"},
            "policy can't be changed after creation: create a new PolicyTraining",
        ),
        ({"seed": 7}, "seed can't be changed after creation: create a new PolicyTraining"),
        ({"tag": "new"}, "tag can't be changed after creation"),
        ({"sft": {"epochs": 2}}, "sft can't be changed after creation"),
        ({"exitCriteria": [{"metric": "x", "min": 0}]}, "exitCriteria can't be changed"),
        ({"exitCriteria": None}, "exitCriteria can't be changed after creation"),
        ({"compute": {"nodes": 2}}, "compute can't be changed after creation"),
        (
            {"judge": {"model": "m", "criteria": [CLEAR]}},
            "judge can't be changed after creation: create a new PolicyTraining",
        ),
        ({"artifact": {"uri": "s3://elsewhere"}}, "artifact can't be changed after creation"),
    ],
)
def test_what_shapes_a_run_is_immutable(
    api: Api, namespace: str, patch: Obj, sentence: str
) -> None:
    api.create(training(namespace))
    with pytest.raises(Refused) as caught:
        api.patch("PolicyTraining", namespace, "forge", {"spec": patch})
    assert sentence in caught.value.message


def test_what_steers_a_run_is_mutable(api: Api, namespace: str) -> None:
    api.create(training(namespace))
    steered = {"suspend": True, "maxRetries": 5, "activeDeadlineSeconds": 60}
    spec = api.patch("PolicyTraining", namespace, "forge", {"spec": steered})["spec"]
    assert steered.items() <= spec.items()


def test_a_deployments_policy_is_immutable_and_its_target_is_not(api: Api, namespace: str) -> None:
    api.create(deployment(namespace))
    api.patch("PolicyDeployment", namespace, "forge", {"spec": {"target": {"version": 2}}})
    with pytest.raises(Refused) as caught:
        api.patch("PolicyDeployment", namespace, "forge", {"spec": {"policy": "other"}})
    assert "policy can't be changed after creation" in caught.value.message


def test_a_version_is_a_record(api: Api, namespace: str) -> None:
    api.create(version(namespace, 1))
    with pytest.raises(Refused) as caught:
        api.patch("PolicyVersion", namespace, "forge-v1", {"spec": {"tag": "better"}})
    assert "a PolicyVersion is a record and can't be changed" in caught.value.message


def test_a_good_training_gets_its_defaults(api: Api, namespace: str) -> None:
    spec = api.create(training(namespace), fieldValidation="Strict")["spec"]
    assert spec["seed"] == 42
    assert spec["maxRetries"] == 3
    assert spec["suspend"] is False
    assert spec["compute"] == {"nodes": 1, "gpusPerNode": 0}
    assert spec["checkpoints"] == {"everySteps": 50, "keep": 2}
    assert spec["sft"]["learningRate"] == 1e-5
    assert spec["sft"]["batchSize"] == 8
    assert spec["base"]["scratch"]["layers"] == 2
    assert "adapter" not in spec
    assert "activeDeadlineSeconds" not in spec


@pytest.mark.parametrize(
    "compute",
    [
        {"gpusPerNode": 2, "resources": {"limits": {"nvidia.com/gpu": "2"}}},
        {"gpusPerNode": 2, "resources": {"requests": {"nvidia.com/gpu": 2, "cpu": "1.5"}}},
        {"resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}, "claims": [{"name": "nic"}]}},
    ],
)
def test_gpus_may_be_asked_for_by_count_or_by_name(api: Api, namespace: str, compute: Obj) -> None:
    budget = {"maxUSD": 5, "maxGPUHours": 3, "usdPerGPUHour": 1}
    made = api.create(training(namespace, compute=compute, budget=budget), fieldValidation="Strict")
    assert made["spec"]["compute"]["resources"] == compute["resources"]


@pytest.mark.parametrize(
    "url", ["http://vllm:8000/v1", "http://vllm.ml.svc/v1", "http://127.0.0.1:8000/v1"]
)
def test_a_judge_in_the_cluster_needs_no_tls(api: Api, namespace: str, url: str) -> None:
    spec = api.create(training(namespace, **endpoint(url=url)), fieldValidation="Strict")["spec"]
    assert spec["judge"]["endpoint"]["url"] == url


def test_every_field_of_a_judge_is_accepted(api: Api, namespace: str) -> None:
    full = endpoint(
        secretRef={"name": "openai", "key": "api-key"},
        usdPerMillionInputTokens=0.15,
        usdPerMillionOutputTokens=0.6,
        maxUSD=5,
    )
    assert api.create(training(namespace, **full), fieldValidation="Strict")["spec"]["judge"]
    other = judged(training={"name": "judge-sft"})
    api.create(training(namespace, "other", **other), fieldValidation="Strict")


def test_every_field_of_a_training_is_accepted(api: Api, namespace: str) -> None:
    full = training(
        namespace,
        "full",
        tag="exp_001_mvp",
        seed=0,
        **grpo(
            REWARD,
            {"name": "any", "weight": 0.2, "containsAny": ["Good", "Poor"]},
            {"name": "score", "weight": 0.2, "regex": r"\d+/10"},
            {"name": "length", "weight": 0.2, "length": {"target": 200}},
            {"name": "range", "weight": -0.1, "length": {"min": 10, "max": 2000}},
            epochs=0.5,
            maxSteps=20,
            learningRate=0.001,
            numGenerations=4,
            args={"loss_type": "dr_grpo", "mask_truncated_completions": True, "top_p": 0.9},
        ),
        base={"training": {"name": "forge-sft"}},
        adapter={"rank": 4, "alpha": 8, "dropout": 0.1, "targetModules": ["q_proj"]},
        exitCriteria=[{"metric": "reward_margin", "min": 0.15}, {"metric": "kl", "max": 1}],
        answerSchema={
            "patterns": ["Score:"],
            "minLength": 1,
            "maxLength": 4000,
            "fields": [
                {"name": "score", "pattern": r"(\d+)", "type": "Integer", "min": 0, "max": 100},
                {
                    "name": "actions",
                    "pointer": "/actions",
                    "type": "Array",
                    "items": [{"name": "type", "pointer": "/type", "type": "String"}],
                },
            ],
            "confidence": "score",
        },
        compute={
            "nodes": 2,
            "processesPerNode": 1,
            "deepspeed": {"stage": 2},
            "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}},
            "nodeSelector": {"disk": "ssd"},
        },
        trainer={"image": "example.com/trainer:1"},
        checkpoints={"everySteps": 5, "keep": 1},
        artifact={"uri": "s3://models/prefix", "secretRef": {"name": "s3"}},
        maxRetries=0,
        suspend=True,
        activeDeadlineSeconds=3600,
        ttlSecondsAfterFinished=0,
    )
    stored = api.create(full, fieldValidation="Strict")["spec"]
    assert stored["grpo"]["args"] == full["spec"]["grpo"]["args"]
    assert stored["compute"]["resources"] == full["spec"]["compute"]["resources"]
    assert stored["compute"]["deepspeed"] == {"stage": 2}


def test_a_good_deployment_gets_its_defaults(api: Api, namespace: str) -> None:
    spec = api.create(deployment(namespace, rollout=None), fieldValidation="Strict")["spec"]
    assert [(s["name"], s["weight"], s["holdSeconds"]) for s in spec["rollout"]["steps"]] == [
        ("canary", 10, 300),
        ("half", 50, 300),
    ]
    assert spec["server"] == {"replicas": 1}
    assert spec["traffic"]["path"] == "/"
    assert spec["alerts"][0]["windowSeconds"] == 60
    assert spec["alerts"][0]["minRequests"] == 10
    assert spec["alerts"][0]["forSeconds"] == 0
    assert spec["alerts"][0]["action"] == "Rollback"
    assert spec["rollback"] == {"watchAfterPromotionSeconds": 86400}


def test_no_steps_means_promote_when_ready(api: Api, namespace: str) -> None:
    spec = api.create(deployment(namespace, rollout={"steps": []}))["spec"]
    assert spec["rollout"]["steps"] == []


def test_status_is_written_through_its_subresource_only(api: Api, namespace: str) -> None:
    made = api.create({**training(namespace), "status": {"state": "Succeeded", "version": 7}})
    assert "status" not in made
    status = api.patch_status("PolicyTraining", namespace, "forge", {"state": "Running"})
    assert status["status"] == {"state": "Running"}
    with pytest.raises(Refused) as caught:
        api.patch_status("PolicyTraining", namespace, "forge", {"version": 0})
    assert "version in body should be greater than or equal to 1" in caught.value.message
