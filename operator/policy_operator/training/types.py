"""The shapes that observing, deciding and applying pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from policy_api import skew
from policy_api.base import Metric, ObjectMeta
from policy_api.contract.report import TrainingReport
from policy_api.contract.run import BaseArtifact
from policy_api.rules.cost import Held
from policy_api.v1alpha1.criteria import CriterionVerdict
from policy_api.v1alpha1.training import PolicyTrainingSpec
from policy_api.v1alpha1.training_status import PolicyTrainingStatus

from policy_operator.machinery.events import Event
from policy_operator.machinery.progress import ReportedProgress
from policy_operator.registry.types import VersionRecord


@dataclass(frozen=True)
class Training:
    """A PolicyTraining as the API server has it."""

    meta: ObjectMeta
    spec: PolicyTrainingSpec
    status: PolicyTrainingStatus
    unknown: str | None = None
    """What a newer CRD let the spec say and this operator does not know: what it means is unknown
    too, so nothing new is started or judged by it."""

    @staticmethod
    def parse(obj: Mapping[str, Any]) -> "Training":
        """Read the object, whichever versions of the CRD and the operator made it.

        Limits that an upgrade has narrowed do not hold up a training that has started before.
        """
        status = skew.read(PolicyTrainingStatus, obj.get("status") or {})
        spec, unknown = skew.examine(
            PolicyTrainingSpec, obj["spec"], "spec", bounds=not status.attempts
        )
        return Training(
            meta=ObjectMeta.model_validate(obj["metadata"]),
            spec=spec,
            status=status,
            unknown=unknown,
        )


# How long a pod has that is told to stop, to agree on a step, save and end: seconds for a small
# model; a large one writes its shards in a minute.
GRACE_SECONDS = 120


@dataclass(frozen=True)
class End:
    """How an attempt ended."""

    reason: str
    """Of policy_api.contract.report.Outcome, or Suspended, DeadlineExceeded, BudgetExceeded,
    ImageNotFound, ContainerNotStarted."""
    message: str
    at: datetime | None
    """When, if the cluster says so."""
    report: TrainingReport | None = None


@dataclass(frozen=True)
class Stall:
    """A pod of the attempt holds its node and can't start a container."""

    reason: str
    """ImageNotFound or ContainerNotStarted."""
    message: str
    final: bool = False
    """Waiting can't help: the image's name is none."""


@dataclass(frozen=True)
class Silence:
    """No object's status says why the attempt does not start; Events may."""

    kind: Literal["Job", "Pod"]
    name: str
    uid: str
    since: datetime
    """How long it has been so."""
    heard: datetime | None = None
    """What Events said before that is old: a pod was made since."""


@dataclass(frozen=True)
class Lingering:
    """A pod that is being deleted and still there."""

    name: str
    node: str
    due: datetime
    """When its grace time is over."""


@dataclass(frozen=True)
class AttemptView:
    """One Job and its pods, as far as decisions need them."""

    index: int
    job: str
    uid: str
    """Of its Job."""
    created_at: datetime
    base_version: str | None
    """Name of the PolicyVersion it starts from, as was decided when it was made."""
    running_since: datetime | None = None
    """When its first pod started, as far as its pods still tell."""
    held: Held | None = None
    """What its pods hold together, as far as one of them is there to tell."""
    running: bool = False
    """All of its pods run."""
    reason: str = ""
    """Why they do not, or Training."""
    message: str = ""
    stopping: bool = False
    """We have suspended its Job: the pods are told to stop."""
    suspended: bool = False
    """Somebody else has suspended its Job: it waits, and goes on by itself."""
    suspended_at: datetime | None = None
    """When its Job was suspended, by whomever."""
    resumed: bool = False
    """Somebody else has resumed its Job, which we had suspended."""
    job_started_at: datetime | None = None
    """When its Job was started or, after a suspension, resumed."""
    deadline_seconds: int | None = None
    """After which its Job ends by itself."""
    pods_active: bool = False
    """A pod of it may still run something."""
    complete: bool = True
    """What its Job needs exists as well: the ConfigMap and, for several pods, the Service."""
    failing: End | None = None
    """How it is about to end: a rank has failed, what the others report is waited for a while."""
    stall: Stall | None = None
    silence: Silence | None = None
    job_runs: bool = False
    """Its Job has neither finished nor been suspended."""
    end: End | None = None


@dataclass(frozen=True)
class Child:
    """What was made for an attempt whose end is known: its Job, its ConfigMap, its Service."""

    index: int
    kind: str
    name: str
    uid: str
    running: bool = False
    """A Job that we had stopped, and that somebody else runs again."""


@dataclass(frozen=True)
class Ready:
    """A version that the training needs is there."""

    artifact: BaseArtifact
    version_name: str
    secret: str | None = None
    maker: str | None = None
    """Uid of the training that made it, if it was asked for by that training's name."""
    note: str = ""
    """What a person should know of it."""


@dataclass(frozen=True)
class Waiting:
    """It may still come: its training has not ended."""

    message: str
    maker: str | None = None
    """Uid of that training, if it exists."""
    until: datetime | None = None
    """When to look again, even if nothing happens."""


@dataclass(frozen=True)
class Failed:
    """It will never come."""

    message: str
    reason: str | None = None
    """Of the training that needs it; None: as its role says."""


@dataclass(frozen=True)
class Later:
    """It may still come; if it has not by then, something else holds."""

    until: datetime
    message: str
    then: Ready | Failed
    maker: str | None = None


Dependency = Ready | Waiting | Failed | Later
Dependencies = Mapping[str, Ready]  # by role


@dataclass(frozen=True)
class Refusal:
    """The API server did not take a child of the training."""

    message: str
    final: bool
    """It never will, by its own rules; else admission may let it through later (a quota)."""


@dataclass(frozen=True)
class Observed:
    """Everything that a decision looks at, besides the object and the time."""

    attempts: tuple[AttemptView, ...] = ()
    """Attempts whose Job exists and whose end the status does not know yet."""
    children: tuple[Child, ...] = ()
    """What is left of attempts whose end the status knows."""
    reserved: int | None = None
    """The version's number that is reserved."""
    pods_left: bool = False
    """Pods of an ended attempt still run: they may still write their checkpoint."""
    leftover: str | None = None
    """A sentence that names what is still there of a deleted training of the same name."""
    left_running: tuple[str, ...] = ()
    """Jobs of ended attempts that nobody has stopped."""
    lingering: tuple[Lingering, ...] = ()
    dependencies: Mapping[str, Dependency] = field(default_factory=dict)
    """The versions that it needs, by role."""
    version: VersionRecord | None = None
    progress: ReportedProgress | None = None
    refusal: Refusal | None = None
    unchangeable: str | None = None
    """What the API server says of a Job that it lets nobody change, or delete."""
    removal: dict[str, Any] | None = None
    """The Job that removes its checkpoints."""
    removals: int = 0
    """How many such Jobs run in its namespace."""
    trainer_image: str | None = None
    """Image of its newest Job."""


@dataclass(frozen=True)
class StartAttempt:
    """Create the attempt's Job."""

    index: int
    dependencies: Dependencies
    seconds: int | None = None
    """Time left to it: the Job controller ends it also while the operator is away."""
    run_seconds: int | None = None
    """How long the budget lets its pods run: so does the kubelet."""
    image: str | None = None
    """Image that earlier attempts ran; None: it is to be resolved."""


@dataclass(frozen=True)
class CompleteAttempt:
    """Create what its Job needs: the ConfigMap and, for several pods, the Service."""

    index: int
    dependencies: Dependencies
    image: str | None = None
    """Image of its Job."""


@dataclass(frozen=True)
class StopJob:
    """Suspend the Job: its pods get SIGTERM, save a checkpoint and end."""

    job: str
    by: str
    """Why, as a reason; it marks the suspension as ours."""


@dataclass(frozen=True)
class SetDeadline:
    """Give a Job another deadline of its own, or none."""

    job: str
    seconds: int | None


@dataclass(frozen=True)
class DeleteChild:
    """Delete a child; the pods of a Job get SIGTERM."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class RecordVersion:
    """Create the PolicyVersion of a finished training, with its verdict."""

    report: TrainingReport
    verdicts: tuple[CriterionVerdict, ...]
    metrics: tuple[Metric, ...]
    parent_version: int | None


@dataclass(frozen=True)
class RemoveCheckpoints:
    """Create the Job that removes a failed training's checkpoints."""


@dataclass(frozen=True)
class DeleteTraining:
    """Its time to live after the end is over."""


Make = StartAttempt | CompleteAttempt | RecordVersion | RemoveCheckpoints
Change = StopJob | SetDeadline | DeleteChild | DeleteTraining
Action = Make | Change


@dataclass(frozen=True)
class Decision:
    """What should be."""

    status: PolicyTrainingStatus
    actions: tuple[Action, ...] = ()
    next_check_at: datetime | None = None
    events: tuple[Event, ...] = ()
