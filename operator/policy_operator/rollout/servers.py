"""One version's server: its Deployment and Service, and what stands beside them."""

from policy_api.keys import LABEL_DEPLOYMENT, LABEL_VERSION

from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import kept, pods, scaling
from policy_operator.rollout.manifests import metadata, server_name
from policy_operator.rollout.types import (
    SERVICE_PORT,
    SETTLE_SECONDS,
    PolicyDeployment,
    ServerObserved,
)


def build(
    pdep: PolicyDeployment,
    record: VersionRecord,
    image: str,
    running: ServerObserved | None = None,
    *,
    frozen: bool = False,
) -> tuple[Obj, ...]:
    """Return what serves one version: first the Deployment and the Service.

    Args:
        pdep: Its owner.
        record: The version.
        image: The operator's server image, for a spec that names none.
        running: What there is of it: its pods stay while nobody asks for others.
        frozen: Whether it is not scaled now.

    Raises:
        TemplateError, InvalidServerError: spec.server says what can't be; the text is a sentence
            for the user.
    """
    version = record.version
    name = server_name(pdep.meta.name, version)
    selector = {LABEL_DEPLOYMENT: pdep.meta.name, LABEL_VERSION: str(version)}
    asked = kept.asked(pdep, record)
    have = running.kept if running is not None else None
    if have is not None and have.of == asked:
        template = have.template
    else:
        template = pods.template(pdep, record, image)
    meta = metadata(pdep, name, version)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**meta, "annotations": kept.annotation(asked, template)},
        "spec": {
            "selector": {"matchLabels": selector},
            "minReadySeconds": SETTLE_SECONDS,
            "revisionHistoryLimit": 2,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": template,
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "selector": selector,
            "ports": [
                {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }
    there = running.replicas if running is not None else None
    made = scaling.stamped(pdep, deployment, service, there)
    return *made, *scaling.children(pdep, version, frozen=frozen)
