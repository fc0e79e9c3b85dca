"""What the API server refuses, in the words that a person reads; no operator runs here."""

from typing import Any

import pytest
from integration.client import Api, Refused
from integration.objects import DIGEST, deployment, training, version

Obj = dict[str, Any]
REWARD: Obj = {"name": "structure", "weight": 0.3, "contains": ["Score:"]}
PARENT: Obj = {"name": "public"}


def grpo(*rewards: Obj, **fields: Any) -> Obj:
    """Fields of a training with recipe GRPO."""
    return {"recipe": "GRPO", "sft": None, "grpo": {"rewards": list(rewards or [REWARD]), **fields}}


CLEAR: Obj = {"name": "clear", "description": "It is easy to read."}


def judged(by: str = "clear", **judge: Any) -> Obj:
    """Fields of a training with recipe GRPO whose reward is a judge's rating."""
    who: Obj = judge or {"model": "m"}
    rewards = grpo({"name": "rating", "weight": 1, "judge": by})
    return {**rewards, "judge": {"criteria": [CLEAR], **who}}


def endpoint(**fields: Any) -> Obj:
    return judged(endpoint={"url": "https://api.example.com/v1", "model": "m", **fields})


def alert(**fields: Any) -> Obj:
    return {"alerts": [{"name": "A", **fields}]}


def steps(*weights: int) -> Obj:
    named = [{"name": f"s{i}", "weight": w} for i, w in enumerate(weights)]
    return {"rollout": {"steps": named}}


def data(**fields: Any) -> Obj:
    return {"data": [{"name": "train", "uri": "pvc://data/train.jsonl", **fields}]}


def store(**fields: Any) -> Obj:
    return {"uri": "pvc://artifacts/policies", **fields}


CLASSIFIER: Obj = {"recipe": "Classifier", "sft": None, "base": None}

# (fields of the spec, the sentence that the answer must hold)
BAD_TRAININGS: list[tuple[Obj, str]] = [
    ({"sft": None}, "spec: Invalid value: set sft if and only if recipe is SFT"),
    (
        {"grpo": {"rewards": [REWARD]}},
        "spec: Invalid value: set grpo if and only if recipe is GRPO",
    ),
    ({"recipe": "GRPO"}, "set grpo if and only if recipe is GRPO"),
    ({"recipe": "Dreaming"}, 'spec.recipe: Unsupported value: "Dreaming": supported values:'),
    ({"policy": None}, "spec.policy: Required value"),
    ({"policy": "Review_Forge"}, 'spec.policy: Invalid value: "Review_Forge"'),
    ({"policy": "p" * 41}, "spec.policy: Too long: may not be more than 40"),
    (
        {"base": {}},
        "spec.base: Invalid value: set exactly one of model, training, version, onnx, scratch",
    ),
    (
        {"base": {"model": "m", "scratch": {}}},
        "spec.base: Invalid value: set exactly one of model, training, version, onnx, scratch",
    ),
    (
        {"base": {"scratch": {}}, "adapter": {"quantization": "NF4"}},
        "adapter.quantization keeps weights that were learned: a scratch base has none",
    ),
    (
        {
            "base": {"model": "m"},
            "adapter": {"quantization": "Int8"},
            "compute": {"nodes": 2, "deepspeed": {"stage": 3}},
        },
        "ZeRO-3 cannot spread quantized weights: set compute.deepspeed.stage to 2 or less",
    ),
    (
        {"adapter": {"quantization": "Int4"}},
        'spec.adapter.quantization: Unsupported value: "Int4"',
    ),
    (
        {"base": {"onnx": {"uri": "file:///policy.onnx"}}},
        "base.onnx is for recipe CQL, whose exports it can read again",
    ),
    ({"base": {"onnx": {}}}, "spec.base.onnx.uri: Required value"),
    (
        {**CLASSIFIER, "classifier": {"label": "churn"}, "artifact": store(exports=["ONNX"])},
        "artifact.exports: ONNX is for recipes SFT, DPO, RewardModel, GRPO, PPO, CQL, Constr",
    ),
    (
        {**CLASSIFIER, "classifier": {"label": "churn"}, "artifact": store(exports=["GGUF"])},
        "artifact.exports: GGUF is for recipes SFT, DPO, GRPO, PPO",
    ),
    (
        {"artifact": store(exports=["JSON"])},
        "artifact.exports: JSON is for recipes CQL, Classifier, PlanPreference",
    ),
    (
        {"artifact": store(exports=["ONNX", "ONNX"])},
        'spec.artifact.exports[1]: Duplicate value: "ONNX"',
    ),
    (
        {"artifact": store(exports=["TensorFlow"])},
        'spec.artifact.exports[0]: Unsupported value: "TensorFlow"',
    ),
    ({"artifact": store(ggufTypes=["Q4_K"])}, "spec.artifact.ggufTypes[0]: Unsupported value"),
    ({"artifact": store(ggufTypes=[])}, "spec.artifact.ggufTypes: Invalid value: 0"),
    (
        {"base": None},
        "spec: Invalid value: base is needed: what training starts from",
    ),
    (
        {
            "recipe": "PlanPreference",
            "sft": None,
            "planPreference": {},
            "base": {"scratch": {}},
        },
        "this recipe starts from nothing: leave base unset",
    ),
    (
        {"recipe": "CQL", "sft": None, "cql": {}, "base": {"scratch": {}}},
        "base may only be a training, a version or an ONNX file with this recipe",
    ),
    (
        {
            "recipe": "PPO",
            "sft": None,
            "ppo": {"rewards": [REWARD]},
            "adapter": {"dropout": 0.1},
        },
        "recipe PPO trains without dropout: leave adapter.dropout unset",
    ),
    (
        {"recipe": "PPO", "sft": None, "ppo": {"rewards": [REWARD], "miniBatchSize": 5}},
        "batchSize must be a multiple of miniBatchSize",
    ),
    (
        {
            "recipe": "ConstrainedPPO",
            "sft": None,
            "base": None,
            "constrainedPPO": {"value": "v"},
            "referenceModels": {"risk": {"training": {"name": "risk"}}},
        },
        "set referenceModels.risk and acceptance if and only if recipe is ConstrainedPPO",
    ),
    (
        {"referenceModels": {"risk": {"training": {"name": "risk"}}}},
        "set referenceModels.risk and acceptance if and only if recipe is ConstrainedPPO",
    ),
    (
        {
            "recipe": "ConstrainedPPO",
            "sft": None,
            "base": None,
            "constrainedPPO": {"value": "v", "offers": [0.1], "averts": [0.1, 0.2]},
        },
        "averts needs one number for each of offers",
    ),
    (
        {"recipe": "CQL", "sft": None, "cql": {"gamma": 1}, "base": None},
        "spec.cql.gamma: Invalid value",
    ),
    (
        {"referenceModels": {"reward": {"training": {"name": "rm"}}}},
        "referenceModels.reward is for recipes GRPO and PPO; no other recipe uses it",
    ),
    (
        grpo({"name": "preferred", "weight": 1, "model": "reward"}),
        "a reward with model needs referenceModels.reward",
    ),
    (
        grpo({"name": "rating", "weight": 1, "judge": "clear"}),
        "a reward with judge needs spec.judge with a criterion of that name",
    ),
    (judged("brief"), "a reward with judge needs spec.judge with a criterion of that name"),
    (
        {
            "recipe": "PPO",
            "sft": None,
            "ppo": {"rewards": [{"name": "rating", "weight": 1, "judge": "clear"}]},
        },
        "a reward with judge needs spec.judge with a criterion of that name",
    ),
    (
        {**grpo(), "judge": {"model": "m", "criteria": [CLEAR]}},
        "judge is for rewards of recipes GRPO and PPO: give one of them a judge",
    ),
    (
        {"judge": {"model": "m", "criteria": [CLEAR]}},
        "judge is for rewards of recipes GRPO and PPO: give one of them a judge",
    ),
    (
        judged(model="m", training={"name": "t"}),
        "spec.judge: Invalid value: set exactly one of endpoint, model, training",
    ),
    (judged(model=None), "spec.judge: Invalid value: set exactly one of endpoint, model, training"),
    (judged(model="m", criteria=[]), "spec.judge.criteria in body should have at least 1 items"),
    (
        judged(model="m", criteria=[CLEAR, CLEAR]),
        'spec.judge.criteria[1]: Duplicate value: {"name":"clear"}',
    ),
    (
        judged(model="m", criteria=[{**CLEAR, "name": "Very-Clear"}]),
        "spec.judge.criteria[0].name: Invalid value",
    ),
    (endpoint(url="http://api.example.com/v1"), "url must be https://…, or http://… of a Service"),
    (endpoint(url="http://evil.example/x.svc"), "url must be https://…, or http://… of a Service"),
    (endpoint(url="ftp://models.ml.svc"), "url must be https://…, or http://… of a Service"),
    (endpoint(maxUSD=5), "maxUSD needs a price: set usdPerMillionInputTokens or"),
    (
        endpoint(maxUSD=0, usdPerMillionInputTokens=1),
        "maxUSD in body should be greater than 0",
    ),
    (endpoint(secretRef={"name": "s"}), "spec.judge.endpoint.secretRef.key: Required value"),
    (
        {
            "recipe": "PlanPreference",
            "sft": None,
            "planPreference": {},
            "base": None,
            "adapter": {},
        },
        "adapter is for recipes that train a text model",
    ),
    (
        {
            "recipe": "PlanPreference",
            "sft": None,
            "planPreference": {},
            "base": None,
            "compute": {"nodes": 2},
        },
        "this recipe trains in one process: leave compute.nodes, processesPerNode and deepspeed",
    ),
    (
        {"referenceModels": {"reward": {}}},
        "set either training or version",
    ),
    (
        {"data": [{"name": "train", "uri": "s3://b/k", "split": {"train": 80, "test": 10}}]},
        "train, validation and test must add up to 100",
    ),
    (
        {"exitCriteria": [{"metric": "loss", "max": 1, "against": "yesterday"}]},
        "spec.exitCriteria[0].against",
    ),
    ({"stopEarly": [{"metric": "kl"}]}, "set min, max or both"),
    ({"onUnmet": "Forget"}, 'spec.onUnmet: Unsupported value: "Forget"'),
    (
        {**CLASSIFIER, "classifier": {"label": "y", "xgboost": {}, "logisticRegression": {}}},
        "set at most one of xgboost, logisticRegression",
    ),
    (
        {
            **CLASSIFIER,
            "classifier": {
                "label": "y",
                "features": [{"name": "seconds", "type": "Numeric"}],
                "forbidden": ["seconds"],
            },
        },
        "a column must not be both in features and in forbidden",
    ),
    (
        {
            **CLASSIFIER,
            "classifier": {"label": "y", "features": [{"name": "y", "type": "Numeric"}]},
        },
        "label must not be one of features",
    ),
    ({"base": {"training": {"name": "Not A Name"}}}, "spec.base.training.name: Invalid value"),
    ({"base": {"scratch": {"layers": 0}}}, "greater than or equal to 1"),
    ({"base": {"scratch": {"vocabSize": 100}}}, "greater than or equal to 260"),
    (
        {"data": [{"name": "validation", "uri": "s3://b/k"}]},
        "spec: Invalid value: data needs an input named train",
    ),
    ({"data": []}, "spec.data: Invalid value: 0: spec.data in body should have at least 1 items"),
    (
        {"data": [{"name": "train", "uri": "s3://b/k"}, {"name": "train", "uri": "s3://b/l"}]},
        'spec.data[1]: Duplicate value: {"name":"train"}',
    ),
    (data(uri="https://example.com/train.jsonl"), "spec.data[0].uri: Invalid value"),
    (data(uri="configmap://one-part"), "spec.data[0].uri: Invalid value"),
    (data(sha256="abc"), "spec.data[0].sha256: Invalid value"),
    (data(maxRows=0), "spec.data[0].maxRows in body should be greater than or equal to 1"),
    (
        {"exitCriteria": [{"metric": "loss"}]},
        "spec.exitCriteria[0]: Invalid value: set at least one of min, max, lowerBound",
    ),
    (
        {"exitCriteria": [{"metric": "loss", "min": 2, "max": 1}]},
        "spec.exitCriteria[0]: Invalid value: min must not be above max",
    ),
    ({"exitCriteria": [{"metric": "Eval Loss", "max": 1}]}, "spec.exitCriteria[0].metric"),
    (
        {"exitCriteria": [{"metric": "loss", "max": 1}, {"metric": "loss", "max": 2}]},
        "spec.exitCriteria[1]: Duplicate value",
    ),
    (
        {"compute": {"nodes": 2}, "artifact": {"uri": "file:///artifacts"}},
        "several nodes need an artifact.uri that all of them can write: pvc:// or s3://",
    ),
    ({"compute": {"nodes": 0}}, "spec.compute.nodes in body should be greater than or equal to 1"),
    (
        {"compute": {"deepspeed": {"stage": 4}}},
        "spec.compute.deepspeed.stage in body should be less than or equal to 3",
    ),
    ({"artifact": {"uri": "ftp://models"}}, "spec.artifact.uri: Invalid value"),
    ({"artifact": {}}, "spec.artifact.uri: Required value"),
    ({"sft": {"epochs": 0}}, "spec.sft.epochs in body should be greater than 0"),
    ({"sft": {"learningRate": "1e-5"}}, 'learningRate in body must be of type number: "string"'),
    ({"adapter": {"dropout": 1}}, "spec.adapter.dropout in body should be less than 1"),
    ({"adapter": {"type": "DoRA"}}, 'spec.adapter.type: Unsupported value: "DoRA"'),
    ({"maxRetries": -1}, "spec.maxRetries in body should be greater than or equal to 0"),
    ({"seed": 2**32}, "spec.seed in body should be less than or equal to 4294967295"),
    ({"tag": "exp 1"}, "spec.tag: Invalid value"),
    (
        grpo({"name": "both", "weight": 1, "regex": "x", "contains": ["y"]}),
        "spec.grpo.rewards[0]: Invalid value: set exactly one of contains, containsAny, regex",
    ),
    (
        grpo({"name": "none", "weight": 1}),
        "set exactly one of contains, containsAny, regex, forbidden, length",
    ),
    (
        grpo({"name": "len", "weight": 1, "length": {"target": 10, "max": 20}}),
        "rewards[0].length: Invalid value: set either target, or under, or min and/or max",
    ),
    (grpo(REWARD, REWARD), 'spec.grpo.rewards[1]: Duplicate value: {"name":"structure"}'),
    (grpo(numGenerations=1), "numGenerations in body should be greater than or equal to 2"),
]

BAD_DEPLOYMENTS: list[tuple[Obj, str]] = [
    ({"target": {}}, "spec.target: Invalid value: set exactly one of version, training"),
    (
        {"target": {"version": 1, "training": {"name": "t"}}},
        "spec.target: Invalid value: set exactly one of version, training",
    ),
    ({"target": {"version": 0}}, "spec.target.version in body should be greater than or equal to"),
    ({"target": None}, "spec.target: Required value"),
    (alert(), "spec.alerts[0]: Invalid value: set exactly one of expr, preset"),
    (
        alert(expr="up == 0", preset="Latency", max=1),
        "spec.alerts[0]: Invalid value: set exactly one of expr, preset",
    ),
    (alert(preset="Latency"), "spec.alerts[0]: Invalid value: set max if and only if preset is"),
    (alert(expr="up == 0", max=1), "spec.alerts[0]: Invalid value: set max if and only if preset"),
    (
        alert(preset="ErrorRate", max=5),
        "max of preset ErrorRate is a ratio: between 0 and 1, below 1",
    ),
    (alert(preset="Sadness", max=1), 'spec.alerts[0].preset: Unsupported value: "Sadness"'),
    (alert(expr="up", action="Pause"), 'spec.alerts[0].action: Unsupported value: "Pause"'),
    (alert(expr="up", name="high-errors"), "spec.alerts[0].name: Invalid value"),
    (
        {"alerts": [{"name": "A", "expr": "x"}, {"name": "A", "expr": "y"}]},
        'spec.alerts[1]: Duplicate value: {"name":"A"}',
    ),
    (steps(50, 10), "spec.rollout: Invalid value: the weights of steps must not fall"),
    (steps(0), "spec.rollout.steps[0].weight in body should be greater than or equal to 1"),
    (steps(101), "spec.rollout.steps[0].weight in body should be less than or equal to 100"),
    ({"traffic": {"parentRefs": []}}, "spec.traffic.parentRefs in body should have at least 1"),
    (
        {"traffic": {"parentRefs": [PARENT], "path": "v1"}},
        "spec.traffic.path in body should match '^/'",
    ),
    (
        {"traffic": {"parentRefs": [PARENT], "hostnames": ["https://x.example"]}},
        "spec.traffic.hostnames[0]: Invalid value",
    ),
    ({"server": {"replicas": 0}}, "spec.server.replicas in body should be greater than or equal"),
]

BAD_VERSIONS: list[tuple[Obj, str]] = [
    (
        {"artifact": {"uri": "pvc://models/forge/1", "sha256": "short"}},
        "spec.artifact.sha256: Invalid value",
    ),
    ({"artifact": {"uri": "models", "sha256": DIGEST}}, "spec.artifact.uri: Invalid value"),
    ({"recipe": "Magic"}, 'spec.recipe: Unsupported value: "Magic"'),
    ({"training": None}, "spec.training: Required value"),
]


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
        (training("default", seeed=1), 'unknown field "spec.seeed"'),
        (training("default", sft={"epoch": 1}), 'unknown field "spec.sft.epoch"'),
        (deployment("default", mode="Primary"), 'unknown field "spec.mode"'),
    ],
)
def test_long_names_and_unknown_fields_are_refused(api: Api, obj: Obj, sentence: str) -> None:
    assert sentence in refused(api, obj)


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
        answerSchema={"patterns": ["Score:"], "minLength": 1, "maxLength": 4000},
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
