"""Objects that the API server refuses, and the sentence that its answer must hold."""

from typing import Any

from integration.objects import DIGEST

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
def said(name: str = "x", **changes: Any) -> Obj:
    """Return a spec whose answers have one field."""
    return {"answerSchema": {"fields": [{"name": name, "type": "Number", **changes}]}}


def sure(**changes: Any) -> Obj:
    """Return a spec whose answers say how sure they are."""
    spec = said(pattern="(.*)", **changes)
    return {"answerSchema": {**spec["answerSchema"], "confidence": "x"}}


def entries(**changes: Any) -> Obj:
    """Return a spec whose answers have a list of entries of one field."""
    return said(pointer="/a", type="Array", items=[{"name": "b", "pointer": "/b", **changes}])


_SURE = "confidence must name one of fields, a Number or Integer with min 0 and max 1 or 100"

BAD_TRAININGS: list[tuple[Obj, str]] = [
    (said(), "spec.answerSchema.fields[0]: Invalid value: set exactly one of pattern and pointer"),
    (said(pattern="(a)", pointer="/a"), "set exactly one of pattern and pointer"),
    (said(pattern="abc"), "pattern needs one group: what it finds is the field's value"),
    (said(pattern="(a)", type="Array"), "a pattern finds a text: type Object and Array need"),
    (said(pattern="(a)", type="String", max=1), "min and max are for type Number and Integer"),
    (said(pattern="(a)", min=2, max=1), "min must not be above max"),
    (said(pointer="a"), "spec.answerSchema.fields[0].pointer: Invalid value"),
    (said("a-b", pattern="(a)"), "spec.answerSchema.fields[0].name: Invalid value"),
    (said(pointer="/a", items=[{"name": "b", "pointer": "/b", "type": "String"}]), "items is for"),
    (entries(type="Object"), 'fields[0].items[0].type: Unsupported value: "Object"'),
    (entries(type="String", name="id"), "id is the name that the server gives to each entry"),
    (entries(type="String", min=1), "min and max are for type Number and Integer"),
    (sure(), _SURE),
    (sure(min=0, max=2), _SURE),
    (sure(min=1, max=100), _SURE),
    ({"answerSchema": {"confidence": "x"}}, _SURE),
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
    (
        {"budget": {"maxUSD": 5}},
        "maxUSD and estimatedUSD need a price: set usdPerGPUHour, usdPerCPUHour or both",
    ),
    ({"budget": {"estimatedUSD": 5}}, "maxUSD and estimatedUSD need a price"),
    (
        {"budget": {"maxGPUHours": 5}},
        "budget.maxGPUHours is for GPUs: set compute.gpusPerNode, or limit the cost by maxUSD",
    ),
    (
        {"budget": {"maxUSD": 5, "usdPerGPUHour": 1}},
        "without GPUs, budget.maxUSD needs the CPUs' price: set budget.usdPerCPUHour",
    ),
    (
        {"budget": {"maxUSD": 5, "usdPerCPUHour": 1}, "compute": {"gpusPerNode": 1}},
        "with GPUs, budget.maxUSD needs their price: set budget.usdPerGPUHour",
    ),
    (
        {
            "budget": {"maxUSD": 5, "usdPerCPUHour": 1},
            "compute": {"resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}},
        },
        "with GPUs, budget.maxUSD needs their price: set budget.usdPerGPUHour",
    ),
    (
        {"compute": {"gpusPerNode": 1, "resources": {"limits": {"nvidia.com/gpu": 2}}}},
        "spec.compute: Invalid value: gpusPerNode and nvidia.com/gpu of resources differ",
    ),
    (
        {"compute": {"gpusPerNode": 1, "resources": {"requests": {"amd.com/gpu": 1}}}},
        "spec.compute: Invalid value: gpusPerNode asks for nvidia.com/gpu, and resources for other",
    ),
    (
        {"compute": {"resources": {"requests": {"cpu": "many"}}}},
        "spec.compute.resources.requests.cpu: Invalid value",
    ),
    (
        {"budget": {"maxUSD": 0, "usdPerCPUHour": 1}},
        "spec.budget.maxUSD in body should be greater than 0",
    ),
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


def rule_of(**fields: Any) -> Obj:
    return {"baseline": {"strategy": "Rule", "rule": fields}}


def when(**condition: Any) -> Obj:
    case = {"when": [{"feature": "task", **condition}], "action": "a"}
    return rule_of(cases=[case], action="b")


def route(path: str = "/retain", to: str = "/v1/decisions", **fields: Any) -> Obj:
    return {"server": {"routes": [{"path": path, "to": to, **fields}]}}


def moved(**field: Any) -> Obj:
    return route(request=[{"to": "/state", **field}])


_RESERVED = "path must be none of the server's own (/v1, /metrics, /healthz, /readyz, /docs, /redoc"


def engine(**fields: Any) -> Obj:
    server = {"engine": "Custom", "image": "e:1", "custom": {}, **fields}
    return {"server": {key: value for key, value in server.items() if value is not None}}


BAD_DEPLOYMENTS: list[tuple[Obj, str]] = [
    ({"scoring": {"deployment": "rm"}}, "spec.scoring.percent: Required value"),
    (
        {"scoring": {"deployment": "rm", "percent": 0}},
        "spec.scoring.percent in body should be greater than or equal to 1",
    ),
    (route("/v1"), _RESERVED),
    (route("/v1/retain"), _RESERVED),
    (route("/metrics"), _RESERVED),
    (route("/openapi.json"), _RESERVED),
    (route("retain"), "spec.server.routes[0].path: Invalid value"),
    (route("/retain/"), "spec.server.routes[0].path: Invalid value"),
    (route("/a/../v1"), "spec.server.routes[0].path: Invalid value"),
    (route("/a//b"), "spec.server.routes[0].path: Invalid value"),
    (route(to="/metrics"), 'spec.server.routes[0].to: Unsupported value: "/metrics"'),
    (
        {"server": {"routes": [{"path": "/a", "to": "/v1/scores"}] * 2}},
        'spec.server.routes[1]: Duplicate value: {"path":"/a"}',
    ),
    (
        {"server": {"routes": [{"path": f"/{n}", "to": "/v1/scores"} for n in range(9)]}},
        "spec.server.routes: Too many: 9: must have at most 8 items",
    ),
    (
        route(to="/v1/scores", then={"deployment": "b", "prompt": "{action}"}),
        "then follows a decision: set to to /v1/decisions, or remove then",
    ),
    (
        route(to="/v1/decisions/{id}/outcome"),
        "an outcome belongs to a decision: say in request where its id comes from, with to: /id",
    ),
    (moved(), "set exactly one of from, query"),
    (moved(**{"from": "/a", "query": "a"}), "set exactly one of from, query"),
    (moved(**{"from": "/a", "type": "Integer"}), "type is for query"),
    (moved(**{"from": "a"}), "spec.server.routes[0].request[0].from: Invalid value"),
    (
        route(request=[{"to": "", "from": "/a"}]),
        "spec.server.routes[0].request[0].to: Invalid value",
    ),
    (
        route(request=[{"to": "/a", "from": "/a"}, {"to": "/a", "from": "/b"}]),
        'spec.server.routes[0].request[1]: Duplicate value: {"to":"/a"}',
    ),
    (
        route(then={"deployment": "b", "prompt": "x", "actions": [{"name": "a"}, {"name": "a"}]}),
        'then.actions[1]: Duplicate value: {"name":"a"}',
    ),
    (route(then={"deployment": "b"}), "spec.server.routes[0].then.prompt: Required value"),
    (
        route(then={"deployment": "b", "prompt": "x", "timeoutMilliseconds": 0}),
        "then.timeoutMilliseconds in body should be greater than or equal to 1",
    ),
    (
        {"mode": "Hybrid", "baseline": {"strategy": "Random"}},
        "mode Hybrid needs minConfidence: below it the baseline answers",
    ),
    (
        {"mode": "Hybrid", "minConfidence": 0.7},
        "mode Hybrid needs baseline: it answers below minConfidence",
    ),
    ({"mode": "Oracle"}, 'spec.mode: Unsupported value: "Oracle"'),
    ({"minConfidence": 70}, "spec.minConfidence in body should be less than or equal to 1"),
    ({"autoApprove": {}}, "spec.autoApprove.minConfidence: Required value"),
    ({"exploration": {"epsilon": 2}}, "spec.exploration.epsilon in body should be less than"),
    ({"timeoutMilliseconds": 0}, "spec.timeoutMilliseconds in body should be greater than"),
    ({"baseline": {"strategy": "Rule"}}, "set rule if and only if strategy is Rule"),
    (
        {"baseline": {"strategy": "Random", "rule": {"action": "a"}}},
        "set rule if and only if strategy is Rule",
    ),
    (rule_of(), "set exactly one of action, answer"),
    (rule_of(action="a", answer="b"), "set exactly one of action, answer"),
    (when(operator="In"), "set values if and only if operator is In or NotIn"),
    (when(operator="In", values=[]), "values in body should have at least 1 items"),
    (
        when(operator="AtMost", values=["a"]),
        "set value if and only if operator is LessThan, AtMost, AtLeast or MoreThan",
    ),
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
    ({"server": {"auth": {}}}, "spec.server.auth.type: Required value"),
    (
        {"server": {"auth": {"type": "Token"}}},
        "spec.server.auth: Invalid value: set token if and only if type is Token",
    ),
    (
        {"server": {"auth": {"type": "None", "token": {"secretRef": {"name": "a", "key": "b"}}}}},
        "spec.server.auth: Invalid value: set token if and only if type is Token",
    ),
    (
        {"server": {"auth": {"type": "TokenReview"}}},
        'spec.server.auth.type: Unsupported value: "TokenReview"',
    ),
    ({"server": {"decisionLog": {}}}, "spec.server.decisionLog.secretRef: Required value"),
    (
        {"server": {"decisionLog": {"secretRef": {"name": "a"}, "redact": ["/team"]}}},
        "spec.server.decisionLog.redact[0]: Invalid value",
    ),
    (
        {"server": {"decisionLog": {"secretRef": {"name": "a"}, "retentionDays": 0}}},
        "spec.server.decisionLog.retentionDays in body should be greater than or equal to 1",
    ),
    (
        {"server": {"auth": {"type": "Token", "token": {"secretRef": {"name": "a"}}}}},
        "spec.server.auth.token.secretRef.key: Required value",
    ),
    (
        {"server": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}},
        "spec.server.autoscaling: Invalid value: minReplicas must not be above maxReplicas",
    ),
    (engine(custom=None), "spec.server: Invalid value: set custom if and only if engine is Custom"),
    (
        {"server": {"image": "e:1", "custom": {}}},
        "spec.server: Invalid value: set custom if and only if engine is Custom",
    ),
    (engine(image=None), "engine Custom needs image: set server.image"),
    (
        engine(auth={"type": "Token", "token": {"secretRef": {"name": "a", "key": "b"}}}),
        "engine Custom does not read auth: let it ask for tokens by itself, and leave auth out",
    ),
    (
        {**engine(), "alerts": None, "mode": "Advisor"},
        "engine Custom does not read mode, minConfidence, autoApprove, baseline, exploration,",
    ),
    (
        engine(custom={"metrics": {"decisions": "a"}}),
        "with engine Custom, preset ErrorRate needs server.custom.metrics.errors",
    ),
    (
        {**engine(), "alerts": [{"name": "Slow", "preset": "Latency", "max": 1}]},
        "preset Latency needs server.custom.metrics.seconds",
    ),
    (engine(custom={"port": 80}), "spec.server.custom.port in body should be greater than or"),
    (engine(custom={"readinessPath": "ready"}), "readinessPath in body should match '^/'"),
    (
        engine(custom={"metrics": {"decisions": "rate(a[1m])"}}),
        "spec.server.custom.metrics.decisions: Invalid value",
    ),
    ({"server": {"engine": "Magic"}}, 'spec.server.engine: Unsupported value: "Magic"'),
    ({"server": {"autoscaling": {}}}, "spec.server.autoscaling.maxReplicas: Required value"),
    (
        {"server": {"autoscaling": {"maxReplicas": 2, "metrics": []}}},
        "should have at least 1 items",
    ),
    (
        {"server": {"template": {"spec": {"hostNetwork": True}}}},
        "spec.server.template: Invalid value: spec.hostNetwork can't be true",
    ),
    (
        {"server": {"template": {"spec": {"securityContext": {"runAsNonRoot": False}}}}},
        "spec.securityContext.runAsNonRoot can't be false",
    ),
    (
        {"server": {"template": {"spec": {"containers": [{"name": "server", "args": ["-v"]}]}}}},
        "the command of container server is the operator's: set neither command nor args",
    ),
    (
        {"server": {"template": {"spec": {"containers": [{"name": "server", "image": "x"}]}}}},
        "set the image of container server in spec.server.image",
    ),
    (
        {"server": {"template": {"metadata": {"labels": {"policyops.dev/version": "9"}}}}},
        "metadata.labels: app.kubernetes.io/managed-by and all of policyops.dev are the operator's",
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
