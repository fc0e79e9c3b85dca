"""Alerts as Prometheus rules: a PrometheusRule where that API exists, else a ConfigMap.

Presets are split by version (`by (version)`), so that an alert names the version that it is
about. Two deployments of one policy are told apart by the names of their pods.
"""

from typing import Literal, assert_never

import yaml
from policy_api.keys import (
    ALERT_ANNOTATION_RULES,
    ALERT_LABEL_ALERT,
    ALERT_LABEL_DEPLOYMENT,
    ALERT_LABEL_NAMESPACE,
    ANNOTATION_APPLIED,
    LABEL_RULES,
)
from policy_api.v1alpha1.deployment import Alert, Preset

from policy_operator.children import checksum
from policy_operator.machinery.cache import Obj
from policy_operator.rollout.manifests import metadata
from policy_operator.rollout.series import Series
from policy_operator.rollout.types import PolicyDeployment

QUANTILE = 0.95  # of preset Latency


def group_name(namespace: str, name: str) -> str:
    """Return the name of the deployment's rule group."""
    return f"policyops.{namespace}.{name}"


def expression(pdep: PolicyDeployment, alert: Alert) -> str:
    """Return the alert's PromQL."""
    if alert.preset is None:
        return alert.expr or ""
    series, window = Series(pdep), f"[{alert.window_seconds}s]"
    limit = repr(float(alert.max or 0))
    counted = series.decisions("increase", window)
    enough = f"sum by (version) ({counted}) >= {alert.min_requests}"
    match alert.preset:
        case Preset.ERROR_RATE:
            value = (
                f"sum by (version) ({series.errors('rate', window)})"
                f" / sum by (version) ({series.decisions('rate', window)})"
            )
        case Preset.LATENCY:
            value = (
                f"histogram_quantile({QUANTILE}, sum by (version, le)"
                f" ({series.buckets('rate', window)}))"
            )
        case _:
            assert_never(alert.preset)
    return f"{value} > {limit} and {enough}"


def _description(pdep: PolicyDeployment, alert: Alert) -> str:
    """Return the sentence, with Prometheus's own template for the numbers."""
    about = f"{pdep.spec.policy} v{{{{ $labels.version }}}}"
    window = f"over {alert.window_seconds} s"
    match alert.preset:
        case Preset.ERROR_RATE:
            return (
                f"{{{{ $value | humanizePercentage }}}} of the decisions of {about} failed "
                f"{window}; at most {100 * (alert.max or 0):g}% of them may"
            )
        case Preset.LATENCY:
            return (
                f"the 95th percentile of the latency of {about} was {{{{ $value | "
                f"humanizeDuration }}}} {window}; at most {alert.max or 0:g} s is allowed"
            )
        case None:
            return "the expression's value is {{ $value }}"
        case _:
            assert_never(alert.preset)


def group(pdep: PolicyDeployment) -> tuple[Obj, str]:
    """Return the rule group and its checksum, which each of its alerts carries.

    The checksum is an annotation: Prometheus returns it with the loaded rules, and a change of it
    does not make a new alert of one that is firing.
    """
    bare: list[Obj] = []
    for alert in pdep.spec.alerts:
        rule: Obj = {
            "alert": alert.name,
            "expr": expression(pdep, alert),
            "for": f"{alert.for_seconds}s",
            "labels": {
                ALERT_LABEL_NAMESPACE: pdep.meta.namespace,
                ALERT_LABEL_DEPLOYMENT: pdep.meta.name,
                ALERT_LABEL_ALERT: alert.name,
                "severity": "critical",
            },
            "annotations": {
                "summary": f"{alert.name}: {pdep.spec.policy} in {pdep.meta.namespace}",
                "description": _description(pdep, alert),
            },
        }
        bare.append(rule)
    value = checksum(bare)
    rules = [
        {**rule, "annotations": {**rule["annotations"], ALERT_ANNOTATION_RULES: value}}
        for rule in bare
    ]
    return {"name": group_name(pdep.meta.namespace, pdep.meta.name), "rules": rules}, value


def object_name(pdep: PolicyDeployment, kind: Literal["PrometheusRule", "ConfigMap"]) -> str:
    """Return the name of the object that holds the rules."""
    return pdep.meta.name if kind == "PrometheusRule" else f"{pdep.meta.name}-rules"


def stamp(pdep: PolicyDeployment, kind: Literal["PrometheusRule", "ConfigMap"]) -> str:
    """Return the checksum that the object carries; cheaper than to write its YAML every time."""
    return checksum([kind, metadata(pdep, object_name(pdep, kind)), group(pdep)[0]])


def build(pdep: PolicyDeployment, kind: Literal["PrometheusRule", "ConfigMap"]) -> Obj:
    """Return the object with the deployment's alert rules."""
    rules, _ = group(pdep)
    meta = metadata(pdep, object_name(pdep, kind))
    meta["annotations"] = {ANNOTATION_APPLIED: stamp(pdep, kind)}
    if kind == "PrometheusRule":
        body: Obj = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": kind,
            "metadata": meta,
            "spec": {"groups": [rules]},
        }
    else:
        meta["labels"] = {**meta["labels"], LABEL_RULES: "true"}
        text = yaml.safe_dump({"groups": [rules]}, sort_keys=False, width=1000)
        key = f"{pdep.meta.namespace}-{pdep.meta.name}.yaml"
        body = {"apiVersion": "v1", "kind": kind, "metadata": meta, "data": {key: text}}
    return body
