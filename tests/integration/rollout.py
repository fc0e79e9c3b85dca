"""A PolicyDeployment as a test sees it: its versions, its status, the weights that were written."""

import ssl
import threading
from base64 import b64decode
from typing import Any

import httpx
from integration.client import DEADLINE_SECONDS, Api, Obj, until
from integration.objects import accepted, deployment, notification, version
from integration.operator_process import OperatorProcess


class Rollout:
    """One PolicyDeployment `forge` in a namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def register(self, number: int, word: str = "True") -> None:
        """Record a version that its exit criteria accepted (or not)."""
        made = self.api.create(version(self.namespace, number))
        name = made["metadata"]["name"]
        self.api.patch_status("PolicyVersion", self.namespace, name, accepted(word))

    def create(self, **spec: Any) -> Obj:
        """Create the PolicyDeployment."""
        return self.api.create(deployment(self.namespace, **spec))

    def serve(self, number: int = 1, **spec: Any) -> None:
        """Have a first version serve all traffic."""
        self.register(number)
        self.create(target={"version": number}, **spec)
        self.wait("Promoted", stable=number)

    def target(self, number: int) -> None:
        """Set what should serve."""
        self.edit({"spec": {"target": {"version": number}}})

    def annotate(self, **annotations: str | None) -> None:
        """Set annotations of our group."""
        full = {f"policyops.dev/{k}": v for k, v in annotations.items()}
        self.edit({"metadata": {"annotations": full}})

    def edit(self, patch: Obj) -> None:
        """Merge into the object."""
        self.api.patch("PolicyDeployment", self.namespace, "forge", patch)

    @property
    def status(self) -> Obj:
        """The status as it is now."""
        found: Obj = self.api.get("PolicyDeployment", self.namespace, "forge").get("status", {})
        return found

    def wait(
        self,
        state: str,
        *,
        stable: int | None = None,
        candidate: int | None = None,
        seconds: float = DEADLINE_SECONDS,
    ) -> Obj:
        """Wait for a state, with these versions as stable and candidate where they are given."""

        def look() -> Obj:
            status = self.status
            assert status.get("state") == state, status
            for part, wanted in (("stable", stable), ("candidate", candidate)):
                have = status.get(part, {}).get("version")
                assert wanted is None or have == wanted, status
            return status

        return until(f"state {state}", look, seconds=seconds)

    def weights(self) -> dict[int, int]:
        """Return the weights as the gateway would apply them now."""
        return weights(self.api.get("HTTPRoute", self.namespace, "forge"))

    def rejected(self, number: int) -> Obj | None:
        """Return the version's condition Rejected when it is True."""
        found = self.api.get("PolicyVersion", self.namespace, f"forge-v{number}")
        for one in found["status"]["conditions"]:
            if (one["type"], one["status"]) == ("Rejected", "True"):
                result: Obj = one
                return result
        return None

    def servers(self) -> list[str]:
        """Return the names of the version's Deployments that are not being deleted."""
        found = self.api.list("Deployment", self.namespace)
        return sorted(
            d["metadata"]["name"] for d in found if "deletionTimestamp" not in d["metadata"]
        )


def weights(route: Obj) -> dict[int, int]:
    """Return the weights of a route by version; a backend of weight 0 counts."""
    first, *others = (
        {int(ref["name"].rsplit("-v", 1)[1]): ref["weight"] for ref in rule["backendRefs"]}
        for rule in route["spec"]["rules"]
    )
    assert all(split == first for split in others)
    return first


class Ledger:
    """Every split of traffic that was ever written, by a watch in the background."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.splits: list[dict[int, int]] = []
        self._api = api
        self._namespace = namespace
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event, route in self._api.watch("HTTPRoute", 300):
                if route["metadata"]["namespace"] != self._namespace or event == "DELETED":
                    continue
                split = {v: w for v, w in weights(route).items() if w}
                if not self.splits or self.splits[-1] != split:
                    self.splits.append(split)
        except (httpx.HTTPError, OSError):
            return  # the client was closed: the tests are over


class Alertmanager:
    """Posts to an operator as Alertmanager does."""

    def __init__(self, api: Api, operator: OperatorProcess) -> None:
        secret = api.get("Secret", operator.namespace, "policy-operator-webhook")
        self.token = b64decode(secret["data"]["token"]).decode()
        certificate = api.get("Secret", operator.namespace, "policy-operator-tls")["data"]["ca.crt"]
        context = ssl.create_default_context(cadata=b64decode(certificate).decode())
        self.client = httpx.Client(
            base_url=operator.url, verify=context, trust_env=False, timeout=30
        )

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def post(self, body: Any, token: str | None = None) -> httpx.Response:
        """Post a body with our token, another one, or (empty) none."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.post("/v1/alerts", json=body, headers=headers)

    def notify(self, namespace: str, name: str = "forge", **fields: Any) -> None:
        """Tell of an alert; anything but 2xx fails the test."""
        answer = self.post(notification(namespace, name, **fields))
        assert answer.status_code == 200, answer.text
