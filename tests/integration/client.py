"""A small client of the API server for tests: plain JSON objects, thread-safe, no cache."""

import base64
import contextlib
import itertools
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx
from policy_api.contract.run import RunConfig

Obj = dict[str, Any]
T = TypeVar("T")

# What comes at once is seen at once; long waits leave the two cores to those who work.
FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 0.2
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
DEADLINE_SECONDS = 90.0

ADMISSION = "apis/admissionregistration.k8s.io/v1"
PATHS: dict[str, tuple[str, str]] = {
    "Namespace": ("api/v1", "namespaces"),
    "Node": ("api/v1", "nodes"),
    "Pod": ("api/v1", "pods"),
    "Service": ("api/v1", "services"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Secret": ("api/v1", "secrets"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "Event": ("apis/events.k8s.io/v1", "events"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "LimitRange": ("api/v1", "limitranges"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "Job": ("apis/batch/v1", "jobs"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "HTTPRoute": ("apis/gateway.networking.k8s.io/v1", "httproutes"),
    "Workload": ("apis/kueue.x-k8s.io/v1beta1", "workloads"),
    "Gateway": ("apis/gateway.networking.k8s.io/v1", "gateways"),
    "PodMonitor": ("apis/monitoring.coreos.com/v1", "podmonitors"),
    "PrometheusRule": ("apis/monitoring.coreos.com/v1", "prometheusrules"),
    "ValidatingAdmissionPolicy": (ADMISSION, "validatingadmissionpolicies"),
    "ValidatingAdmissionPolicyBinding": (ADMISSION, "validatingadmissionpolicybindings"),
    "MutatingAdmissionPolicy": (ADMISSION, "mutatingadmissionpolicies"),
    "MutatingAdmissionPolicyBinding": (ADMISSION, "mutatingadmissionpolicybindings"),
    "PolicyTraining": ("apis/policyops.dev/v1alpha1", "policytrainings"),
    "PolicyDeployment": ("apis/policyops.dev/v1alpha1", "policydeployments"),
    "PolicyVersion": ("apis/policyops.dev/v1alpha1", "policyversions"),
}
CLUSTER_SCOPED = {
    "Namespace",
    "Node",
    "CustomResourceDefinition",
    *(kind for kind, (root, _) in PATHS.items() if root == ADMISSION),
}


class Refused(Exception):  # noqa: N818 - the API server's answer, not our error
    """The API server said no; `message` is its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def until(
    what: str,
    ask: Callable[[], T],
    *,
    seconds: float = DEADLINE_SECONDS,
    show: Callable[[], object] | None = None,
) -> T:
    """Ask again and again until the answer is true, and return it.

    An AssertionError, a KeyError, an IndexError or a busy API server means "not yet".

    Raises:
        AssertionError: it did not become true in time; `show` says how things are instead.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    every = FIRST_POLL_SECONDS
    last: object = None
    while True:
        try:
            answer = ask()
        except (AssertionError, KeyError, IndexError, TypeError) as error:
            last = error
        except Refused as refused:
            if refused.status not in BUSY:
                raise
            last = refused
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:
            seen = show() if show is not None else last
            raise AssertionError(f"not within {seconds:g} s: {what}; instead: {seen!r}")
        pause.wait(every)
        every = min(LAST_POLL_SECONDS, every * 1.25)


class Api:
    """Calls to one API server as its administrator."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        self.server: str = cluster["server"]
        self.ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.tls = ssl.create_default_context(cadata=self.ca)
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            self.tls.load_cert_chain(pair.name)
        self._streams: set[socket.socket] = set()
        self.closed = False
        self._mine = threading.local()
        self._clients: list[httpx.Client] = []

    @property
    def http(self) -> httpx.Client:
        """This thread's connections."""
        if not hasattr(self._mine, "client"):
            self._mine.client = httpx.Client(
                base_url=self.server, verify=self.tls, timeout=30, trust_env=False
            )
            self._clients.append(self._mine.client)
        client: httpx.Client = self._mine.client
        return client

    def close(self) -> None:
        """Close the connections; watches that other threads read end at once."""
        self.closed = True
        for stream in list(self._streams):
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown drops the TLS state first: a reader in the middle of an event
                # would go on with what is still encrypted, and take it for JSON.
                socket.socket.shutdown(stream, socket.SHUT_RDWR)
        for client in self._clients:
            client.close()

    @staticmethod
    def path(kind: str, namespace: str | None, name: str | None = None, sub: str = "") -> str:
        """Return the URL's path."""
        root, plural = PATHS[kind]
        inside = f"/namespaces/{namespace}" if namespace and kind not in CLUSTER_SCOPED else ""
        return f"/{root}{inside}/{plural}" + (f"/{name}" if name else "") + (f"/{sub}" * bool(sub))

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> Obj:
        """Make one call and return the JSON answer.

        Raises:
            Refused: the answer is an error.
        """
        headers = options.pop("headers", {})
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", **headers}
        answer = self.http.request(method, path, content=content, headers=headers, **options)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        data: Obj = answer.json() if is_json else {}
        if answer.status_code >= 400:
            raise Refused(answer.status_code, data.get("message", answer.text))
        return data

    def find(self, kind: str, namespace: str | None, name: str) -> Obj | None:
        """Return the object, or None."""
        try:
            return self.call("GET", self.path(kind, namespace, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def get(self, kind: str, namespace: str | None, name: str) -> Obj:
        """Return the object; its absence fails the test."""
        found = self.find(kind, namespace, name)
        assert found is not None, f"no {kind} {namespace}/{name}"
        return found

    def list(self, kind: str, namespace: str | None = None, labels: str = "") -> list[Obj]:
        """Return the objects, of all namespaces when none is named."""
        params = {"labelSelector": labels} if labels else {}
        answer = self.call("GET", self.path(kind, namespace), params=params)
        head = {"kind": kind}
        return [{**head, **item} for item in answer["items"]]

    def create(self, obj: Obj, **params: str) -> Obj:
        """Create the object."""
        return self.call(
            "POST", self.path(obj["kind"], obj["metadata"].get("namespace")), obj, params=params
        )

    def refusal(self, obj: Obj) -> str:
        """Return why the object would not be created; empty when it would."""
        try:
            self.create(obj, dryRun="All")
        except Refused as refused:
            return refused.message
        return ""

    def patch(
        self, kind: str, namespace: str | None, name: str, patch: Obj, *, sub: str = ""
    ) -> Obj:
        """Apply a JSON merge patch."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return self.call("PATCH", self.path(kind, namespace, name, sub), patch, headers=headers)

    def patch_status(self, kind: str, namespace: str | None, name: str, status: Obj) -> Obj:
        """Merge into the status subresource."""
        return self.patch(kind, namespace, name, {"status": status}, sub="status")

    def delete(self, kind: str, namespace: str | None, name: str, **options: Any) -> None:
        """Delete the object; one that is gone already is fine."""
        try:
            self.call("DELETE", self.path(kind, namespace, name), options or None)
        except Refused as refused:
            if refused.status != 404:
                raise

    def gone(self, kind: str, namespace: str | None, name: str) -> None:
        """Wait until there is no such object."""
        until(f"{kind} {name} is gone", lambda: self.find(kind, namespace, name) is None)

    def watch(self, kind: str, seconds: float, labels: str = "") -> Iterator[tuple[str, Obj]]:
        """Yield (type, object) of all namespaces, existing ones first, for some seconds.

        Raises:
            Refused: the API server ends it; beginning anew is all that can be done.
        """
        params: dict[str, Any] = {
            "watch": "true",
            "timeoutSeconds": int(seconds),
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
        }
        if labels:
            params["labelSelector"] = labels
        path = self.path(kind, None)
        with self.http.stream("GET", path, params=params, timeout=seconds + 30) as answer:
            if answer.status_code >= 400:
                raise Refused(answer.status_code, answer.read().decode())
            stream = answer.extensions["network_stream"].get_extra_info("socket")
            self._streams.add(stream)
            try:
                for line in answer.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Refused(event["object"]["code"], event["object"]["message"])
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
            finally:
                self._streams.discard(stream)


_numbers = itertools.count(1)


def new_namespace(api: Api, prefix: str = "t") -> str:
    """Make a namespace with a name that no test had before, and wait for its service account."""
    name = f"{prefix}-{next(_numbers)}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    until("default service account", lambda: api.find("ServiceAccount", name, "default"))
    return name


def condition(obj: Obj, kind: str) -> Obj:
    """Return the condition of this type; its absence fails the test (or means "not yet")."""
    for found in obj.get("status", {}).get("conditions", []):
        if found["type"] == kind:
            result: Obj = found
            return result
    raise AssertionError(f"no condition {kind} in {obj.get('status')}")


def run_config(api: Api, namespace: str, job: str) -> RunConfig:
    """Return the config that the attempt's pods read."""
    made = until(f"ConfigMap {job}", lambda: api.find("ConfigMap", namespace, job))
    return RunConfig.model_validate_json(made["data"]["run.json"])


def jobs(api: Api, namespace: str) -> list[str]:
    """Return the names of the Jobs of a namespace."""
    return sorted(j["metadata"]["name"] for j in api.list("Job", namespace))
