"""One version's Deployment and Service."""

from policy_api.keys import LABEL_DEPLOYMENT, LABEL_VERSION

from policy_operator.children import stamp
from policy_operator.machinery.cache import Obj
from policy_operator.registry.types import VersionRecord
from policy_operator.rollout import kept, pods
from policy_operator.rollout.manifests import metadata, server_name
from policy_operator.rollout.types import SERVICE_PORT, SETTLE_SECONDS, Kept, PolicyDeployment


def build(
    pdep: PolicyDeployment, record: VersionRecord, image: str, running: Kept | None = None
) -> tuple[Obj, ...]:
    """Return the Deployment and the Service that serve one version.

    Args:
        pdep: Its owner.
        record: The version.
        image: The operator's server image, for a spec that names none.
        running: The pod template that it has; it stays while nobody asks for another one.

    Raises:
        TemplateError: spec.server.template can't be merged; the text is a sentence for the user.
    """
    version = record.version
    name = server_name(pdep.meta.name, version)
    selector = {LABEL_DEPLOYMENT: pdep.meta.name, LABEL_VERSION: str(version)}
    asked = kept.asked(pdep, record)
    if running is not None and running.of == asked:
        template = running.template
    else:
        template = pods.template(pdep, record, image)
    meta = metadata(pdep, name, version)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**meta, "annotations": kept.annotation(asked, template)},
        "spec": {
            "replicas": pdep.spec.server.replicas,
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
    return stamp(deployment, service)
