"""What a decision about a PolicyDeployment is made from, and what it is made of.

Everything here is frozen: `observe` builds an Observed, `decide` turns it into a Decision, and
neither holds on to anything between two calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from policy_api import skew
from policy_api.base import Condition, ObjectMeta
from policy_api.contract.serving import Peer
from policy_api.v1alpha1.deployment import PolicyDeploymentSpec, PolicyDeploymentStatus

from policy_operator.children import Foreign
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.events import Event
from policy_operator.monitoring.types import Monitoring, Signal
from policy_operator.registry.types import RecordServing, VersionRecord

PORT = 8080  # of the policy server, in the pod
SERVICE_PORT = 80

# The longest answer: proxies give up sooner by themselves (Envoy after 15 s), which a language
# model on a CPU exceeds, and a pod that stops must be given as long to finish.
REQUEST_SECONDS = 60

# A version that lost its traffic keeps its pods this long. A gateway learns of new weights within
# milliseconds, but answers of a language model that it has already asked for take seconds.
DRAIN_SECONDS = 10

# A pod must have been Ready this long before it counts: the gateway's proxies learn of endpoints
# on another path than of weights, and a weight that arrives first is a 503.
SETTLE_SECONDS = 2


# What the server of one version is made of, in the order in which it is made.
SERVER_KINDS = ("Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler")


# …and what all versions share, under the deployment's own name.
SHARED_KINDS = ("NetworkPolicy", "PodMonitor")


class InvalidServerError(ValueError):
    """spec.server says what can't be; the text is a sentence for the user."""


@dataclass(frozen=True)
class PolicyDeployment:
    """The resource, parsed."""

    meta: ObjectMeta
    spec: PolicyDeploymentSpec
    status: PolicyDeploymentStatus
    unknown: str | None = None
    """What a newer CRD let the spec say and this operator does not know: what runs stays as it is,
    and only what sends traffic back is done."""

    @classmethod
    def parse(cls, obj: Obj) -> "PolicyDeployment":
        """Read the object, whichever versions of the CRD and the operator made it."""
        spec, unknown = skew.examine(PolicyDeploymentSpec, obj["spec"], "spec")
        return cls(
            meta=ObjectMeta.model_validate(obj["metadata"]),
            spec=spec,
            status=skew.read(PolicyDeploymentStatus, obj.get("status") or {}),
            unknown=unknown,
        )


@dataclass(frozen=True)
class TrainingRecord:
    """The PolicyTraining that spec.target names."""

    name: str
    policy: str
    version: int | None = None
    succeeded: Condition | None = None


@dataclass(frozen=True)
class Kept:
    """The pod template of a server as it was applied."""

    of: str
    """Checksum of what it was made from."""
    template: Obj


@dataclass(frozen=True)
class ServerObserved:
    """The server of one version."""

    version: int
    stamps: Mapping[str, str | None] = field(default_factory=dict)
    """Checksum of the manifests as applied, by kind; a kind that is missing has none."""
    available: int = 0
    """Pods of the newest template that have been Ready for SETTLE_SECONDS."""
    endpoints: int = 0
    """Ready addresses in the Service's EndpointSlices."""
    trouble: str = ""
    """Why a pod is not ready, if one says."""
    replicas: int | None = None
    """How many pods its Deployment says that there should be."""
    kept: Kept | None = None
    """Its pod template, which stays while nobody asks for another one."""

    @property
    def applied(self) -> str | None:
        """Checksum of the manifests as applied; None: they are not all there, or not the same."""
        have = {self.stamps.get(kind) for kind in ("Deployment", "Service")}
        return have.pop() if len(have) == 1 else None


@dataclass(frozen=True)
class Backend:
    """One weighted backend of the route."""

    version: int
    weight: int
    role: str


@dataclass(frozen=True)
class RollbackRecord:
    """Why the weights went back; it travels in the same write as the weights.

    An operator that dies right after that write finds it here, and finishes the rollback.
    """

    version: int
    since: datetime
    """Start of the rollout (candidate.startedAt or stable.since) that this ends: no other."""
    alert: str
    message: str
    at: datetime


@dataclass(frozen=True)
class RouteObserved:
    """The HTTPRoute."""

    backends: tuple[Backend, ...]
    applied: str | None = None
    accepted: bool = False
    """Every parent's controller accepts it and resolves its references."""
    programmed: bool = False
    """The same, for the route's current generation."""
    trouble: str = ""
    """What a parent's controller says against it."""
    rollback: RollbackRecord | None = None
    spec: Obj | None = None
    """As the API server has it."""

    def weight(self, version: int) -> int | None:
        """Return the version's weight, or None when it is no backend."""
        return next((b.weight for b in self.backends if b.version == version), None)


@dataclass(frozen=True)
class RulesObserved:
    """The PrometheusRule or ConfigMap with the alerts."""

    kind: str
    name: str
    applied: str | None


@dataclass(frozen=True)
class Observed:
    """Everything that a decision reads beside the resource itself."""

    versions: dict[int, VersionRecord]
    servers: dict[int, ServerObserved]
    route: RouteObserved | None
    rules: tuple[RulesObserved, ...]
    rules_kind: Literal["PrometheusRule", "ConfigMap"]
    monitoring: Monitoring
    server_image: str
    training: TrainingRecord | None = None
    signals: tuple[Signal, ...] = ()
    """Alerts that the webhook brings with this very call."""
    url: str | None = None
    foreign: tuple[Foreign, ...] = ()
    """Objects that have our children's names and are not ours, as far as that is known."""
    gateway_api: bool = True
    """Whether the cluster has HTTPRoutes at all."""
    serving: str | None = None
    """Checksum of the ConfigMap that servers read, as applied; None: there is none of ours."""
    peers: tuple[Peer, ...] = ()
    """Servers of other deployments that the servers of this one ask."""

    shared: Mapping[str, str | None] = field(default_factory=dict)
    """Checksums of what all versions share, as applied, by kind."""
    pod_monitors: bool = False
    """Whether the cluster has PodMonitors."""
    refused: str | None = None
    """What the API server has just said against the servers that spec.server describes."""

    def taken(self, kind: str, name: str) -> Foreign | None:
        """Return the object that is not ours and has this name, if one is known."""
        return next((f for f in self.foreign if (f.kind, f.name) == (kind, name)), None)


@dataclass(frozen=True)
class ApplyServer:
    """Create or update a version's server, or the parts of it that differ."""

    version: int
    manifests: tuple[Obj, ...]


@dataclass(frozen=True)
class ApplyRoute:
    """Create or update the HTTPRoute: this is what moves traffic."""

    manifest: Obj
    final: bool = False
    """It carries the record of a rollback, from which any later operator can finish it."""


@dataclass(frozen=True)
class ApplyRules:
    """Create or update the alert rules."""

    manifest: Obj


@dataclass(frozen=True)
class ApplyServing:
    """Create or update the ConfigMap that the servers read."""

    manifest: Obj


@dataclass(frozen=True)
class ApplyShared:
    """Create or update what all versions share."""

    manifest: Obj


@dataclass(frozen=True)
class DeleteServer:
    """Delete all parts of a version's server."""

    version: int


@dataclass(frozen=True)
class DeleteObject:
    """Delete a child that is not wanted any more."""

    kind: str
    name: str


Action = (
    ApplyServer
    | ApplyServing
    | ApplyRoute
    | ApplyRules
    | ApplyShared
    | RecordServing
    | DeleteServer
    | DeleteObject
)


@dataclass(frozen=True)
class Decision:
    """What to do now: the actions in their order, then the status, then the events."""

    status: PolicyDeploymentStatus
    actions: tuple[Action, ...] = ()
    next_check_at: datetime | None = None
    events: tuple[Event, ...] = ()
