"""What is watched: what users write by kopf, its children by us. All goes to the intake.

kopf is used for what it does well (discovery, list and watch, reconnecting) and for nothing that
writes: no finalizers, no annotations, no event posting, no peering.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import kopf
from kubernetes.aio.client import Configuration
from policy_api.keys import (
    FIELD_MANAGER,
    KIND_DEPLOYMENT,
    KIND_TRAINING,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
)
from typing_extensions import override

from policy_operator.machinery.cache import Obj
from policy_operator.machinery.intake import Intake
from policy_operator.machinery.kube import Kube
from policy_operator.machinery.lists import Lists, Scope, Watch
from policy_operator.machinery.resources import RESOURCES
from policy_operator.settings import Settings

# Kinds that users write are watched whole; of all others only what carries one of our labels.
_OURS = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
_MADE = (
    "Job",
    "Pod",
    "Service",
    "ConfigMap",
    "Deployment",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "HTTPRoute",
    "PodMonitor",
    "PrometheusRule",
)
BY_KOPF = (KIND_TRAINING, KIND_DEPLOYMENT)


def scopes(settings: Settings) -> dict[str, Scope]:
    """Return every kind that we look at, and which of its objects."""
    where = settings.namespaces or (None,)
    lease = f"metadata.name={settings.lease_name}"
    return {
        **{kind: Scope(namespaces=where) for kind in (*BY_KOPF, "PolicyVersion")},
        **{kind: Scope(labels=_OURS, namespaces=where) for kind in _MADE},
        # The headless Services of trainings have EndpointSlices too, which tell nobody anything.
        "EndpointSlice": Scope(labels=LABEL_DEPLOYMENT, namespaces=where),
        "Lease": Scope(fields=lease, namespaces=(settings.namespace,)),
    }


def watches(
    settings: Settings, kube: Kube, lists: Lists, intake: Intake, nudge: Callable[[Obj], None]
) -> list[Watch]:
    """Return the watches of every kind that kopf does not watch.

    Args:
        settings: Ours.
        kube: The API server.
        lists: Where they begin.
        intake: Where the events go.
        nudge: Called with our Lease whenever it changes.
    """

    def tell(kind: str, event_type: str, obj: Obj) -> None:
        intake.event(kind, event_type, obj)
        if kind == "Lease" and event_type != "BOOKMARK":
            nudge(obj)

    return [
        Watch(kind, namespace, lists, kube, tell)
        for kind, scope in scopes(settings).items()
        for namespace in scope.namespaces
        if kind not in BY_KOPF
    ]


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


def registry(configuration: Configuration, intake: Intake) -> kopf.OperatorRegistry:
    """Return kopf's handlers: one a kind that users write.

    Args:
        configuration: How to reach the API server.
        intake: Where the events go.
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

    for kind in BY_KOPF:
        watch(kind)
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


class _ForEver:
    """kopf's pauses before it tries again: it gives up at their end, and the process would die.

    A refusal (403) or an API server that is away is waited for; our own lists say what is wrong.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.5, 1.0), itertools.repeat(2.0))


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """Return kopf's settings; each departure from its defaults has its reason."""
    made = kopf.OperatorSettings()
    # Whoever may read only some namespaces may not watch which kinds the cluster has.
    made.scanning.disabled = bool(settings.namespaces)
    made.posting.enabled = False  # we send our own Events
    # A worker keeps its task this long after an object's last event. There is no worker_limit:
    # with one, idle workers hold slots and a burst of objects crawls.
    made.queueing.idle_timeout = 0.5
    made.queueing.exit_timeout = 0.5
    made.process.ultimate_exiting_timeout = 20.0
    made.persistence.diffbase_storage = _NoDiff()
    made.persistence.progress_storage = _NoProgress()
    made.watching.connect_timeout = 10.0
    made.networking.error_backoffs = _ForEver()
    return made
