"""Objects that tests begin with; each call returns a fresh copy."""

import copy
from datetime import UTC, datetime
from typing import Any

from policy_api.base import Metric
from policy_api.contract.report import Outcome, ReportedArtifact, TrainingReport
from policy_api.keys import (
    ALERT_LABEL_ALERT,
    ALERT_LABEL_DEPLOYMENT,
    ALERT_LABEL_NAMESPACE,
    ALERT_LABEL_VERSION,
    LABEL_POLICY,
    LABEL_VERSION,
)

Obj = dict[str, Any]
DIGEST = "0123456789abcdef" * 4

_TRAINING: Obj = {
    "apiVersion": "policyops.dev/v1alpha1",
    "kind": "PolicyTraining",
    "metadata": {"name": "forge", "namespace": "default"},
    "spec": {
        "policy": "forge",
        "recipe": "SFT",
        "sft": {"epochs": 1},
        "base": {"scratch": {}},
        "data": [{"name": "train", "uri": "pvc://data/train.jsonl"}],
        "exitCriteria": [{"metric": "eval_loss", "max": 2.5}],
        "artifact": {"uri": "pvc://models"},
    },
}

_DEPLOYMENT: Obj = {
    "apiVersion": "policyops.dev/v1alpha1",
    "kind": "PolicyDeployment",
    "metadata": {"name": "forge", "namespace": "default"},
    "spec": {
        "policy": "forge",
        "target": {"version": 1},
        "traffic": {"parentRefs": [{"name": "public", "namespace": "gateways"}]},
        "rollout": {
            "steps": [
                {"name": "canary", "weight": 10, "holdSeconds": 0},
                {"name": "half", "weight": 50, "holdSeconds": 0},
            ]
        },
        "alerts": [{"name": "HighErrorRate", "preset": "ErrorRate", "max": 0.05}],
    },
}

_VERSION: Obj = {
    "apiVersion": "policyops.dev/v1alpha1",
    "kind": "PolicyVersion",
    "metadata": {"name": "forge-v1", "namespace": "default"},
    "spec": {
        "policy": "forge",
        "version": 1,
        "artifact": {"uri": "pvc://models/forge/1", "sha256": DIGEST},
        "training": {"name": "forge", "uid": "6e3f1c1e-0000-4000-8000-000000000000"},
        "recipe": "SFT",
    },
}


def training(namespace: str, name: str = "forge", **spec: Any) -> Obj:
    """Return a PolicyTraining; `spec` replaces fields, None removes one."""
    return _named(_TRAINING, namespace, name, spec)


def deployment(namespace: str, name: str = "forge", **spec: Any) -> Obj:
    """Return a PolicyDeployment; `spec` replaces fields, None removes one."""
    return _named(_DEPLOYMENT, namespace, name, spec)


def version(namespace: str, number: int, policy: str = "forge", **spec: Any) -> Obj:
    """Return a PolicyVersion, labelled as the operator labels it."""
    own = {
        "policy": policy,
        "version": number,
        "artifact": {"uri": f"pvc://models/{policy}/{number}", "sha256": DIGEST},
    }
    made = _named(_VERSION, namespace, f"{policy}-v{number}", {**own, **spec})
    made["metadata"]["labels"] = {LABEL_POLICY: policy, LABEL_VERSION: str(number)}
    return made


def accepted(word: str = "True") -> Obj:
    """Return the status of a version that its exit criteria accepted (or not)."""
    condition = {
        "type": "Accepted",
        "status": word,
        "reason": "ExitCriteriaMet" if word == "True" else "ExitCriteriaUnmet",
        "message": "all 1 exit criteria met" if word == "True" else "eval_loss is 9, wanted <= 2.5",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    return {"conditions": [condition]}


def notification(
    namespace: str,
    name: str = "forge",
    alert: str = "HighErrorRate",
    *,
    version: int | None = None,
    status: str = "firing",
    since: datetime | None = None,
) -> Obj:
    """Return what Alertmanager posts (version 4) about one alert of a PolicyDeployment."""
    labels = {
        "alertname": alert,
        "severity": "critical",
        ALERT_LABEL_NAMESPACE: namespace,
        ALERT_LABEL_DEPLOYMENT: name,
        ALERT_LABEL_ALERT: alert,
    }
    if version is not None:
        labels[ALERT_LABEL_VERSION] = str(version)
    one = {
        "status": status,
        "labels": labels,
        "annotations": {"description": "12% of the decisions failed"},
        "startsAt": (since or datetime.now(UTC)).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "c0ffee",
    }
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "policy-operator",
        "groupLabels": {},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "alerts": [one],
    }


def _named(template: Obj, namespace: str, name: str, spec: Obj) -> Obj:
    made = copy.deepcopy(template)
    made["metadata"].update(namespace=namespace, name=name)
    for field, value in spec.items():
        if value is None:
            made["spec"].pop(field, None)
        else:
            made["spec"][field] = value
    return made


def completed(number: int = 1, policy: str = "forge", **metrics: float) -> str:
    """Return the termination message of a training that wrote an artifact."""
    return TrainingReport(
        outcome=Outcome.COMPLETED,
        step=100,
        max_steps=100,
        metrics=tuple(Metric(name=k, value=v) for k, v in (metrics or {"eval_loss": 1.5}).items()),
        artifact=ReportedArtifact(
            uri=f"pvc://models/{policy}/{number}", sha256=DIGEST, version=number
        ),
    ).encode()


def failed(outcome: Outcome, message: str, **more: Any) -> str:
    """Return the termination message of a training that failed."""
    return TrainingReport(outcome=outcome, message=message, **more).encode()
