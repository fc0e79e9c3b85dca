"""kopf's part: watches. Every event goes into the cache and wakes the keys that it concerns.

kopf is used for what it does well (discovery, list and watch of many kinds, reconnecting) and for
nothing that writes: no finalizers, no annotations, no event posting, no peering.
"""

import logging
from collections.abc import Callable
from typing import Any

import kopf
from kubernetes.aio.client import Configuration
from policy_api.keys import FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_MANAGED_BY
from typing_extensions import override

from policy_operator.machinery.cache import Obj
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.kube import RESOURCES
from policy_operator.settings import Settings

log = logging.getLogger(__name__)

# Kinds that users write are watched whole; of all others only what carries one of our labels.
_OURS = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
# The headless Services of trainings have EndpointSlices as well, which tell nobody anything.
_SELECTORS: dict[str, str | None] = {
    "PolicyTraining": None,
    "PolicyDeployment": None,
    "PolicyVersion": None,
    "Job": _OURS,
    "Pod": _OURS,
    "Service": _OURS,
    "ConfigMap": _OURS,
    "Deployment": _OURS,
    "EndpointSlice": LABEL_DEPLOYMENT,
    "HTTPRoute": _OURS,
    "PrometheusRule": _OURS,
}
WATCHED = tuple(_SELECTORS)


def watch_selector(kind: str) -> str | None:
    """Return the label selector by which we watch and list a kind; None means all."""
    return _SELECTORS[kind]


def _login(configuration: Configuration) -> Callable[..., Any]:
    async def login(**_: Any) -> kopf.ConnectionInfo:
        """Hand the API client's credentials to kopf; asked again after a 401."""
        settings: dict[str, Any] = await configuration.auth_settings()
        header = str(settings.get("BearerToken", {}).get("value") or "")
        scheme, _space, token = header.rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            ca_data=configuration.ca_cert_data,
            insecure=not configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )

    return login


def registry(
    settings: Settings,
    configuration: Configuration,
    intake: Intake,
    heartbeat: Callable[[Obj], None],
) -> kopf.OperatorRegistry:
    """Return every handler: one a kind, all of a few lines.

    Args:
        settings: Ours.
        configuration: How to reach the API server.
        intake: Where the events go.
        heartbeat: Called with our Lease whenever it changes.
    """
    made = kopf.OperatorRegistry()
    kopf.on.login(id="login", registry=made)(_login(configuration))

    def watch(kind: str) -> None:
        resource = RESOURCES[kind]

        async def on_event(event: Any, **_: Any) -> None:
            intake.event(kind, event["type"], event["object"])

        kopf.on.event(resource.group, resource.version, resource.plural, id=kind, registry=made)(
            on_event
        )

    for kind in WATCHED:
        watch(kind)

    lease = RESOURCES["Lease"]

    @kopf.on.event(lease.group, lease.version, lease.plural, id="Lease", registry=made)
    async def on_lease(event: Any, **_: Any) -> None:
        meta = event["object"]["metadata"]
        if (meta["namespace"], meta["name"]) == (settings.namespace, settings.lease_name):
            intake.event("Lease", event["type"], event["object"])
            heartbeat(event["object"])

    return made


class _NoDiff(kopf.DiffBaseStorage):
    """Remembers no last state: only handlers of changes need it, and we have none.

    kopf works it out for every event all the same, with deep copies of the whole object, which was
    half of the operator's processor time in a burst.
    """

    @override
    def build(self, **_: Any) -> Any:
        return {}

    @override
    def fetch(self, **_: Any) -> Any:
        return None

    @override
    def store(self, **_: Any) -> None:
        """Store nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Remembers no progress of handlers: an event handler runs once."""

    @override
    def fetch(self, **_: Any) -> Any:
        return None

    @override
    def store(self, **_: Any) -> None:
        """Store nothing."""

    @override
    def purge(self, **_: Any) -> None:
        """Store nothing."""

    @override
    def touch(self, **_: Any) -> None:
        """Store nothing."""

    @override
    def clear(self, *, essence: Any) -> Any:
        return essence


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """Return kopf's settings; each departure from its defaults has its reason."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False  # we send our own Events
    # A worker keeps its task this long after an object's last event. There is no worker_limit:
    # with one, idle workers hold slots and a burst of objects crawls.
    made.queueing.idle_timeout = 0.5
    made.queueing.exit_timeout = 0.5
    made.process.ultimate_exiting_timeout = 20.0
    made.persistence.diffbase_storage = _NoDiff()
    made.persistence.progress_storage = _NoProgress()
    made.watching.connect_timeout = 10.0
    for kind in WATCHED:
        selector, resource = watch_selector(kind), RESOURCES[kind]
        if selector is not None:
            key = (resource.group, resource.version, resource.plural)
            made.watching.label_selectors[key] = selector
    lease = RESOURCES["Lease"]
    made.watching.field_selectors[lease.group, lease.version, lease.plural] = (
        f"metadata.name={settings.lease_name}"
    )
    return made
