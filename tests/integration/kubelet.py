"""What a node and a gateway would do, played through the status subresources.

`Kubelet` is called by a test: it starts a training's pods and ends them as told. `PlayedNode` works
by itself in the background: it runs the pods of policy servers, ends pods that are deleted, and
says that a gateway has taken a route in, unless a test holds that back.
"""

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
from integration.client import Api, Obj, Refused, until
from policy_api.contract.report import Outcome, TrainingReport
from policy_api.keys import EXIT_PREEMPTED, LABEL_DEPLOYMENT, LABEL_TRAINING, LABEL_VERSION

NODE = "played"
WATCH_SECONDS = 300
BEAT_SECONDS = 10.0


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(ready: bool) -> list[Obj]:
    word = "True" if ready else "False"
    return [
        {"type": kind, "status": status, "lastTransitionTime": now()}
        for kind, status in (
            ("PodScheduled", "True"),
            ("Initialized", "True"),
            ("ContainersReady", word),
            ("Ready", word),
        )
    ]


class Kubelet:
    """Plays the pods of one namespace, as a test tells it."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def pods(self, job: str, count: int = 1) -> list[Obj]:
        """Wait until the Job's pods exist; return those that have not ended, by index."""

        def found() -> list[Obj]:
            pods = self.api.list("Pod", self.namespace, f"batch.kubernetes.io/job-name={job}")
            alive = [p for p in pods if p["status"]["phase"] in ("Pending", "Running")]
            assert len(alive) == count, [(p["metadata"]["name"], p["status"]) for p in pods]
            key = "batch.kubernetes.io/job-completion-index"
            return sorted(alive, key=lambda p: int(p["metadata"]["annotations"][key]))

        return until(f"{count} pods of Job {job}", found)

    def run(self, job: str, count: int = 1) -> list[Obj]:
        """Start the Job's pods on the played node: Running and ready.

        As on a real one, no container starts before the ConfigMap that it mounts exists, and no
        rank of several pods finds the others before their Service does.
        """
        pods = self.pods(job, count)
        for kind in ("ConfigMap", "Service") if count > 1 else ("ConfigMap",):
            until(f"{kind} {job}", lambda kind=kind: self.api.find(kind, self.namespace, job))
        for pod in pods:
            self.bind(pod)
            self.set(pod, "Running", {"running": {"startedAt": now()}}, ready=True)
        return pods

    def bind(self, pod: Obj) -> None:
        """Schedule a pod, as the scheduler does."""
        if pod["spec"].get("nodeName"):
            return
        name = pod["metadata"]["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        self.api.call("POST", self.api.path("Pod", self.namespace, name, "binding"), binding)

    def end(self, job: str, code: int, message: str = "", *, count: int = 1, **extra: Any) -> None:
        """End the Job's pods with an exit code and, for index 0, a termination message.

        The other pods end with the same code and no message, as real ranks do.
        """
        self.run(job, count)
        for index, pod in enumerate(self.pods(job, count)):
            self.terminate(pod, code, message if index == 0 else "", **extra)

    def terminate(
        self, pod: Obj, code: int, message: str = "", reason: str = "", beside: Obj | None = None
    ) -> None:
        """End one pod; `beside` is the state of another container, which keeps it running."""
        word = reason or ("Completed" if code == 0 else "Error")
        state = {
            "terminated": {
                "exitCode": code,
                "reason": word,
                "message": message,
                "startedAt": now(),
                "finishedAt": now(),
            }
        }
        phase = "Succeeded" if code == 0 else "Failed"
        self.set(pod, "Running" if beside is not None else phase, state, ready=False, beside=beside)

    def wait_in(self, job: str, reason: str, message: str, *, count: int = 1) -> None:
        """Leave the Job's containers waiting, e.g. ErrImagePull."""
        for pod in self.pods(job, count):
            state = {"waiting": {"reason": reason, "message": message}}
            self.set(pod, "Pending", state, ready=False)

    def unschedulable(self, job: str, message: str, *, count: int = 1) -> None:
        """Say of the Job's pods what the scheduler says when no node fits."""
        for pod in self.pods(job, count):
            self.api.patch_status(
                "Pod",
                self.namespace,
                pod["metadata"]["name"],
                {
                    "phase": "Pending",
                    "conditions": [
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": message,
                            "lastTransitionTime": now(),
                        }
                    ],
                },
            )

    def disrupt(self, job: str, code: int, message: str = "", *, count: int = 1) -> None:
        """Preempt the Job's running pods: DisruptionTarget, and their end with this exit code."""
        for pod in self.pods(job, count):
            target = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": "a more important pod needs the node",
                "lastTransitionTime": now(),
            }
            state = {"terminated": {"exitCode": code, "message": message, "finishedAt": now()}}
            self.set(pod, "Failed", state, ready=False, more=[target])

    def set(
        self,
        pod: Obj,
        phase: str,
        state: Obj,
        *,
        ready: bool,
        more: list[Obj] | None = None,
        beside: Obj | None = None,
    ) -> None:
        """Write a pod's phase, the state of its first container, and of the others if given."""
        states = [state, *([beside] * (len(pod["spec"]["containers"]) - 1) if beside else [])]
        status = {
            "phase": phase,
            "startTime": now(),
            "conditions": [*_conditions(ready), *(more or [])],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": ready,
                    "started": "running" in each,
                    "restartCount": 0,
                    "state": each,
                }
                for container, each in zip(pod["spec"]["containers"], states, strict=False)
            ],
        }
        self.api.patch_status("Pod", self.namespace, pod["metadata"]["name"], status)


class PlayedNode:
    """A node and a gateway that work by themselves, in the background, in all namespaces."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(2)
        self._held: set[tuple[str, str]] = set()
        self.errors: list[str] = []

    def start(self) -> None:
        """Register the node, and begin."""
        self.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        self._beat()
        loops = {
            "pods": lambda: self._follow("Pod", self._pod),
            "routes": lambda: self._follow("HTTPRoute", self._route),
            "heart": self._heart,
        }
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=f"node-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End; the threads are daemons, their watches end with the API server."""
        self._stop.set()

    def hold(self, namespace: str, what: str) -> None:
        """Do nothing about something from now on.

        Args:
            namespace: Where it is.
            what: A version's number: its pods; `route`; `trainers`: those that are told to end.
        """
        self._held.add((namespace, what))

    def release(self, namespace: str, what: str) -> None:
        """Go on with what was held, at once."""
        self._held.discard((namespace, what))
        if what == "route":
            for route in self.api.list("HTTPRoute", namespace):
                self._route(route)
        else:
            label = LABEL_TRAINING if what == "trainers" else f"{LABEL_VERSION}={what}"
            for pod in self.api.list("Pod", namespace, label):
                self._pod(pod)

    def _follow(self, kind: str, handle: Callable[[Obj], None]) -> None:
        while not self._stop.is_set():
            try:
                for event, obj in self.api.watch(kind, WATCH_SECONDS):
                    if self._stop.is_set():
                        return
                    if event in ("ADDED", "MODIFIED"):
                        self._guarded(handle, obj)
            except (httpx.HTTPError, OSError, Refused):
                # Cut off, e.g. as too slow a reader: begin anew, with all that exists.
                if self._stop.wait(0.1):
                    return

    def _guarded(self, handle: Callable[[Obj], None], obj: Obj) -> None:
        try:
            handle(obj)
        except Refused as refused:
            # Deleted or changed meanwhile: the next event has the newer state.
            ending = "because it is being terminated" in refused.message
            if refused.status not in (404, 409) and not ending:
                self.errors.append(f"{obj['kind']} {obj['metadata']['name']}: {refused}")

    def _pod(self, pod: Obj) -> None:
        meta = pod["metadata"]
        namespace, name, labels = meta["namespace"], meta["name"], meta.get("labels", {})
        if "deletionTimestamp" in meta:
            if LABEL_TRAINING in labels and (namespace, "trainers") in self._held:
                return
            if LABEL_TRAINING in labels and pod["status"].get("phase") == "Running":
                # SIGTERM: the trainer saves a checkpoint and ends; this comes back as an event.
                report = TrainingReport(outcome=Outcome.PREEMPTED, message="told to stop", step=50)
                Kubelet(self.api, namespace).terminate(pod, EXIT_PREEMPTED, report.encode())
                return
            uid = {"uid": meta["uid"]}
            self.api.delete("Pod", namespace, name, gracePeriodSeconds=0, preconditions=uid)
            return
        if LABEL_DEPLOYMENT not in labels or pod["status"].get("phase") == "Running":
            return
        if (namespace, labels.get(LABEL_VERSION)) in self._held:
            return
        kubelet = Kubelet(self.api, namespace)
        kubelet.bind(pod)
        number = next(self._numbers)
        address = f"10.{200 + number // 65536}.{number // 256 % 256}.{number % 256}"
        kubelet.set(pod, "Running", {"running": {"startedAt": now()}}, ready=True)
        self.api.patch_status(
            "Pod", namespace, name, {"podIP": address, "podIPs": [{"ip": address}]}
        )

    def _route(self, route: Obj) -> None:
        meta = route["metadata"]
        if (meta["namespace"], "route") in self._held or "deletionTimestamp" in meta:
            return
        parents = route.get("status", {}).get("parents", [])
        generation = meta["generation"]
        if parents and all(
            c["observedGeneration"] == generation for p in parents for c in p["conditions"]
        ):
            return
        status = {
            "parents": [
                {
                    "parentRef": ref,
                    "controllerName": "policyops.dev/played-gateway",
                    "conditions": [
                        {
                            "type": kind,
                            "status": "True",
                            "reason": kind,
                            "message": "",
                            "observedGeneration": generation,
                            "lastTransitionTime": now(),
                        }
                        for kind in ("Accepted", "ResolvedRefs")
                    ],
                }
                for ref in route["spec"]["parentRefs"]
            ]
        }
        self.api.patch_status("HTTPRoute", meta["namespace"], meta["name"], status)

    def _beat(self) -> None:
        self.api.patch_status(
            "Node",
            None,
            NODE,
            {
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "reason": "KubeletReady",
                        "lastHeartbeatTime": now(),
                        "lastTransitionTime": now(),
                    }
                ]
            },
        )

    def _heart(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._beat()
