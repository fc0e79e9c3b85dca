"""PolicyDeployment: turns a version into safe traffic."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from policy_api.base import (
    CONDITIONS_EXTRA,
    DNS_LABEL,
    DNS_SUBDOMAIN,
    ApiModel,
    Condition,
    Time,
    list_map,
    rule,
    rules,
)
from policy_api.v1alpha1.autoscaling import Autoscaling
from policy_api.v1alpha1.callers import Auth
from policy_api.v1alpha1.decision_log import DecisionLog
from policy_api.v1alpha1.engine import ENGINE_RULES, SERVER_RULES, CustomEngine, Engine
from policy_api.v1alpha1.inputs import TrainingRef
from policy_api.v1alpha1.network import ServerNetworkPolicy
from policy_api.v1alpha1.pod_template import ServerTemplate
from policy_api.v1alpha1.routes import MOST_ROUTES, Route
from policy_api.v1alpha1.serving import SERVING_RULES, ServingFields


class Target(ApiModel):
    """What should serve."""

    model_config = rules(
        rule("has(self.version) != has(self.training)", "set exactly one of version, training")
    )

    version: int | None = Field(default=None, ge=1, description="A version of spec.policy.")
    training: TrainingRef | None = Field(
        default=None, description="The version that this PolicyTraining makes, once it has."
    )


class Server(ApiModel):
    """The pods that answer."""

    model_config = rules(*SERVER_RULES)

    engine: Engine | None = Field(
        default=None,
        description=(
            "BuiltIn: policy_server, or an image that is as it. Custom: any HTTP server, to which "
            "an init container of ours gives the checked artifact. Unset: BuiltIn."
        ),
    )
    custom: CustomEngine | None = Field(
        default=None, description="How a server that is not ours is started and asked."
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description=(
            "Image with policy_server; unset: the operator's own server image. Of engine Custom: "
            "the engine's."
        ),
    )
    replicas: int = Field(
        default=1, ge=1, le=1000, description="Pods of each version, without autoscaling."
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="As many pods as are needed; unset: replicas."
    )
    auth: Auth | None = Field(
        default=None, description="Who may ask for decisions; unset: whoever reaches the server."
    )
    decision_log: DecisionLog | None = Field(
        default=None, description="Where what is decided is kept; unset: nowhere."
    )
    routes: list[Route] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_ROUTES,
        description=(
            "Paths of your own, beside /v1: which call each of them is, with which fields. They "
            "change in running servers: no pod is restarted."
        ),
        json_schema_extra=list_map("path"),
    )
    resources: dict[str, Any] | None = Field(
        default=None,
        description="Requests and limits of the server container, as in a pod.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    network_policy: ServerNetworkPolicy | None = Field(
        default=None,
        description=(
            "Who may reach the pods, where the network enforces policies; unset: everybody. `{}` "
            "lets in the Gateway, Prometheus and the deployment's own servers."
        ),
    )
    template: ServerTemplate | None = Field(
        default=None,
        description=(
            "What the pods have beside what the operator sets: tolerations, affinity, environment, "
            "volumes, containers beside the server…"
        ),
    )


class ParentRef(ApiModel):
    """A Gateway that the route attaches to."""

    name: str = Field(pattern=DNS_SUBDOMAIN, max_length=253, description="Name of the Gateway.")
    namespace: str | None = Field(
        default=None,
        pattern=DNS_LABEL,
        max_length=63,
        description="Its namespace; unset: the PolicyDeployment's own.",
    )
    section_name: str | None = Field(
        default=None,
        pattern=DNS_SUBDOMAIN,
        max_length=253,
        description="Name of one listener of the Gateway; unset: all of them.",
    )


Hostname = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class Traffic(ApiModel):
    """How requests reach the policy: one HTTPRoute that the operator owns."""

    parent_refs: list[ParentRef] = Field(
        min_length=1,
        max_length=8,
        description="Gateways that the route attaches to.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    hostnames: list[Hostname] = Field(
        default_factory=list,
        max_length=16,
        description="Host names that the route answers for; none: all.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    path: str = Field(
        default="/",
        pattern=r"^/",
        max_length=1000,  # a match of the Gateway API's has 1024, the server's own path included
        description=(
            "Path prefix below which the route publishes /v1/decisions, /v1/scores, /v1/feedback "
            "and /v1/chat/completions, and the paths of server.routes; servers get what follows: "
            "/retain/v1/decisions as /v1/decisions."
        ),
    )


class Step(ApiModel):
    """One step of the rollout."""

    name: str = Field(pattern=DNS_LABEL, max_length=63, description="Name of the step.")
    weight: int = Field(
        ge=1, le=100, description="The candidate's part of the traffic, in percent."
    )
    hold_seconds: int = Field(
        default=0, ge=0, le=31_536_000, description="How long the step is held."
    )


class Rollout(ApiModel):
    """How a new version takes over."""

    model_config = rules(
        rule(
            "!has(self.steps) || self.steps.map(s, s.weight).isSorted()",
            "the weights of steps must not fall",
        )
    )

    steps: list[Step] = Field(
        default_factory=lambda: [
            Step(name="canary", weight=10, hold_seconds=300),
            Step(name="half", weight=50, hold_seconds=300),
        ],
        max_length=20,
        description="Steps before the promotion; none: promote as soon as it is ready.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    progress_deadline_seconds: int = Field(
        default=600,
        ge=1,
        le=31_536_000,
        description="How long a step may take beyond its hold before the candidate is given up.",
    )


class Preset(StrEnum):
    """A ready-made alert."""

    ERROR_RATE = "ErrorRate"
    LATENCY = "Latency"


class Alert(ApiModel):
    """An alert that becomes a Prometheus rule; it acts when it fires."""

    model_config = rules(
        rule("has(self.expr) != has(self.preset)", "set exactly one of expr, preset"),
        rule("has(self.preset) == has(self.max)", "set max if and only if preset is set"),
        rule(
            "!has(self.preset) || self.preset != 'ErrorRate' || !has(self.max) || self.max < 1.0",
            "max of preset ErrorRate is a ratio: between 0 and 1, below 1",
        ),
        rule(
            "!has(self.preset) || self.preset != 'Latency' || !has(self.max) || self.max < 30.0",
            "max of preset Latency must be below 30: longer answers are not told apart",
        ),
    )

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        max_length=63,
        description="Name in CamelCase.",
    )
    preset: Preset | None = Field(
        default=None,
        description=(
            "ErrorRate: failed decisions over all decisions. Latency: 95th percentile in seconds."
        ),
    )
    max: float | None = Field(
        default=None, ge=0, description="The preset fires above this: a ratio, or seconds."
    )
    window_seconds: int = Field(
        default=60,
        ge=5,
        le=86400,
        description=(
            "The preset looks back this far: at least two scrapes of Prometheus, better four."
        ),
    )
    min_requests: int = Field(
        default=10,
        ge=1,
        le=1_000_000,
        description="The preset needs this many decisions in the window: one error is no trend.",
    )
    expr: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description=(
            "PromQL; fires while it returns a series. A label `version` limits it to that version."
        ),
    )
    for_seconds: int = Field(
        default=0, ge=0, le=86400, description="How long it must hold before it fires."
    )
    action: Literal["Rollback"] = Field(
        default="Rollback",
        description="Rollback: traffic returns to the stable version, the candidate is rejected.",
    )


class Rollback(ApiModel):
    """When and how far to go back."""

    watch_after_promotion_seconds: int = Field(
        default=86400,
        ge=0,
        le=31_536_000,
        description="Alerts roll back this long after a promotion; the old version stays ready.",
    )


class PolicyDeploymentSpec(ServingFields):
    """What should serve, how it takes over, and what sends it back."""

    model_config = rules(
        rule(
            "self.policy == oldSelf.policy",
            "policy can't be changed after creation: create a new PolicyDeployment",
        ),
        *SERVING_RULES,
        *ENGINE_RULES,
    )

    policy: str = Field(pattern=DNS_LABEL, max_length=40, description="The policy's name.")
    target: Target = Field(description="What should serve: exactly one of its fields.")
    server: Server = Field(default_factory=Server, description="The pods that answer.")
    traffic: Traffic = Field(description="How requests reach the policy.")
    rollout: Rollout = Field(default_factory=Rollout, description="How a new version takes over.")
    alerts: list[Alert] = Field(
        default_factory=list,
        max_length=32,
        description="Alerts that send a version back.",
        json_schema_extra=list_map("name"),
    )
    rollback: Rollback = Field(default_factory=Rollback, description="When and how far to go back.")


class StableStatus(ApiModel):
    """The version that serves."""

    version: int = Field(ge=1, description="Number of the version.")
    weight: int = Field(ge=0, le=100, description="Its part of the traffic, in percent.")
    since: Time = Field(description="When it became stable.")


class CandidateStatus(ApiModel):
    """The version that is being rolled out."""

    version: int = Field(ge=1, description="Number of the version.")
    weight: int = Field(ge=0, le=100, description="Its part of the traffic, in percent.")
    step_index: int = Field(ge=-1, description="Step, from 0; -1 before the first.")
    step_name: str | None = Field(default=None, description="Name of the step.")
    started_at: Time = Field(description="When it became the candidate.")
    traffic_since: Time | None = Field(
        default=None,
        description="When it first took traffic; an alert with no version counts from here on.",
    )
    step_started_at: Time | None = Field(default=None, description="When its weight was set.")
    hold_until: Time | None = Field(default=None, description="When the step may end.")


class PreviousStatus(ApiModel):
    """The version that served before, kept ready while a promotion is watched."""

    version: int = Field(ge=1, description="Number of the version.")
    until: Time = Field(description="When its pods are removed, unless an alert needs it before.")


class RetiringStatus(ApiModel):
    """A version without traffic, whose pods finish what they began before they are removed."""

    version: int = Field(ge=1, description="Number of the version.")
    until: Time = Field(description="When its pods and its Service are removed.")


class GivenUpStatus(ApiModel):
    """A candidate that was taken back without being rejected: a new target or a retry ends it."""

    version: int = Field(ge=1, description="Number of the version.")
    reason: str = Field(description="Aborted or ProgressDeadlineExceeded.")
    message: str = Field(default="", description="What happened and why, as a sentence.")
    at: Time = Field(description="When it happened, UTC.")


class HandledAnnotations(ApiModel):
    """Values of annotations that were acted on; each value acts once."""

    abort: str | None = Field(default=None, description="Value of policyops.dev/abort.")
    retry: str | None = Field(default=None, description="Value of policyops.dev/retry.")


class AlertStatus(ApiModel):
    """An alert as last heard of."""

    name: str = Field(description="Name of the alert.")
    state: Literal["Firing", "Resolved"] = Field(description="Firing or Resolved.")
    version: int | None = Field(default=None, ge=1, description="Its version, if known.")
    since: Time = Field(description="When it began to fire.")


class RejectedVersion(ApiModel):
    """A version that was rolled back here."""

    version: int = Field(ge=1, description="Number of the version.")
    reason: str = Field(description="What sent it back.")
    at: Time = Field(description="When it happened, UTC.")


class Transition(ApiModel):
    """One line of the rollout's history."""

    at: Time = Field(description="When it happened, UTC.")
    version: int = Field(ge=1, description="The version it is about.")
    event: str = Field(description="Started, Step, Promoted, RolledBack, Aborted.")
    message: str = Field(default="", description="What happened and why, as a sentence.")


class PolicyDeploymentStatus(ApiModel):
    """What serves now; written by the operator alone."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that this status is about."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Ready, Progressing, Degraded, MonitoringAvailable.",
        json_schema_extra=CONDITIONS_EXTRA,
    )
    state: str | None = Field(
        default=None, description="One word for people: the reason of Progressing."
    )
    stable: StableStatus | None = Field(default=None, description="The version that serves.")
    candidate: CandidateStatus | None = Field(
        default=None, description="The version that is being rolled out."
    )
    previous: PreviousStatus | None = Field(
        default=None, description="The version before, while the promotion is watched."
    )
    retiring: list[RetiringStatus] = Field(
        default_factory=list,
        description="Versions without traffic that are about to be removed.",
        json_schema_extra=list_map("version"),
    )
    given_up: GivenUpStatus | None = Field(
        default=None, description="The target, if it was aborted or made no progress."
    )
    handled: HandledAnnotations | None = Field(
        default=None, description="Annotations that were acted on."
    )
    alerts: list[AlertStatus] = Field(
        default_factory=list,
        description="Alerts as last heard of: the same alert once for each version.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    rejected: list[RejectedVersion] = Field(
        default_factory=list,
        description="Versions that were rolled back here.",
        json_schema_extra=list_map("version"),
    )
    history: list[Transition] = Field(
        default_factory=list,
        description="The last 20 transitions, oldest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    url: str | None = Field(default=None, description="Where the policy answers.")
