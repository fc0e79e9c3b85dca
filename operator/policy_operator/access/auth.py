"""Who calls our HTTPS server: a trainer pod by its projected token, Alertmanager by a Secret."""

import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from policy_api.keys import FIELD_MANAGER, LABEL_MANAGED_BY

from policy_operator.access.limits import Limiter, Rate
from policy_operator.children import controller, owned
from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.errors import AlreadyExists
from policy_operator.machinery.kube import Kube

WEBHOOK_SECRET = "policy-operator-webhook"  # noqa: S105 - a name
WEBHOOK_KEY = "token"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"
# A trainer posts every 5 s with one token: a review a minute is enough.
_BELIEVED_SECONDS = 60.0
# A good token may be refused for a moment, by an API server that has not seen its pod yet.
_REFUSED_SECONDS = 10.0
_REFUSED_TOKENS = 2000
_MARGIN = 100  # tokens that are remembered beyond one for each pod
# Of reviews that fail, or of pods that are not ours; a trainer's costs nothing.
_EACH = Rate(burst=50, per_second=5)
_TOGETHER = Rate(burst=200, per_second=50)


@dataclass(frozen=True)
class PodIdentity:
    """The pod that a token was issued to."""

    namespace: str
    name: str
    uid: str


class Limited(Exception):  # noqa: N818 - not an error of ours
    """Too many tokens that are no good came from there, or from everywhere."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many tokens are no good: try again in {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True)
class _Reviewed:
    """What a TokenReview said, and when."""

    at: float
    pod: PodIdentity | None


def pod_identity(review: Obj, audience: str) -> PodIdentity | None:
    """Read the answer to a TokenReview; None unless it is a pod's token for our audience."""
    status = review.get("status") or {}
    if not status.get("authenticated") or audience not in (status.get("audiences") or ()):
        return None
    user = status.get("user") or {}
    username, extra = user.get("username") or "", user.get("extra") or {}
    names: list[str] = extra.get(_POD_NAME) or []
    uids: list[str] = extra.get(_POD_UID) or []
    if not username.startswith(_SERVICE_ACCOUNT) or len(names) != 1 or len(uids) != 1:
        return None
    namespace = username.removeprefix(_SERVICE_ACCOUNT).partition(":")[0]
    return PodIdentity(namespace, names[0], uids[0])


def token_review(token: str, audience: str) -> Obj:
    """Return the question to the API server."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {},
        "spec": {"token": token, "audiences": [audience]},
    }


class Trainers:
    """Recognizes trainer pods."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        audience: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._audience = audience
        self._clock = clock
        self._limiter = Limiter(clock, _EACH, _TOGETHER)
        self._believed: OrderedDict[bytes, _Reviewed] = OrderedDict()
        self._newest: dict[str, bytes] = {}  # a pod's uid -> the token that it came with last
        self._refused: OrderedDict[bytes, _Reviewed] = OrderedDict()

    async def identify(self, token: str, source: str) -> PodIdentity | None:
        """Return the pod that holds the token; None when the token is no good.

        Args:
            token: What was sent.
            source: The address it came from.

        Raises:
            ApiError, OSError, TimeoutError: the API server could not be asked.
            Limited: it was asked too often already.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._believed.get(digest)
        if known is not None and self._clock() - known.at < _BELIEVED_SECONDS:
            return known.pod
        refused = self._refused.get(digest)
        if refused is not None and self._clock() - refused.at < _REFUSED_SECONDS:
            return refused.pod
        if known is None and (wait := self._limiter.take(source)) > 0:
            raise Limited(wait)
        answer = await self._kube.create(token_review(token, self._audience))
        pod = pod_identity(answer, self._audience)
        if pod is not None and self._pod(pod) is not None:
            if known is None:
                self._limiter.give_back(source)
            self._believe(digest, pod)
        else:
            self._refuse(digest, pod)
        return pod

    def _believe(self, digest: bytes, pod: PodIdentity) -> None:
        """Remember a pod's token; there is room for one of each pod that exists."""
        older = self._newest.get(pod.uid)
        if older is not None and older != digest:
            self._believed.pop(older, None)
        self._newest[pod.uid] = digest
        self._believed[digest] = _Reviewed(self._clock(), pod)
        self._believed.move_to_end(digest)
        while len(self._believed) > self._cache.count("Pod") + _MARGIN:
            self._forget(next(iter(self._believed)))

    def _forget(self, digest: bytes) -> None:
        reviewed = self._believed.pop(digest, None)
        if reviewed is None or reviewed.pod is None:
            return
        if self._newest.get(reviewed.pod.uid) == digest:
            del self._newest[reviewed.pod.uid]

    def _refuse(self, digest: bytes, pod: PodIdentity | None) -> None:
        """Remember a token that is no good, or of a pod that is not ours."""
        self._forget(digest)
        self._refused[digest] = _Reviewed(self._clock(), pod)
        self._refused.move_to_end(digest)
        if len(self._refused) > _REFUSED_TOKENS:
            self._refused.popitem(last=False)

    def _pod(self, pod: PodIdentity) -> Obj | None:
        found = self._cache.get("Pod", pod.namespace, pod.name)
        return found if found is not None and found["metadata"]["uid"] == pod.uid else None

    def trains(self, pod: PodIdentity, training: Obj) -> bool:
        """Whether this very pod belongs to the training: by its Job, which the training owns.

        Labels say nothing: whoever makes a pod writes them.
        """
        found, meta = self._pod(pod), training["metadata"]
        if found is None or pod.namespace != meta["namespace"]:
            return False
        owner = controller(found)
        if owner is None or (owner["kind"], owner["apiVersion"]) != ("Job", "batch/v1"):
            return False
        job = self._cache.get("Job", pod.namespace, owner["name"])
        return (
            job is not None and job["metadata"]["uid"] == owner["uid"] and owned(job, meta["uid"])
        )


def same_token(given: str, wanted: str) -> bool:
    """Compare in constant time; an empty wanted token matches nothing."""
    return bool(wanted) and secrets.compare_digest(given.encode(), wanted.encode())


class SecretError(ValueError):
    """A Secret of ours holds something that can't be used; the sentence says what to change."""

    def __init__(self, secret: Obj, message: str) -> None:
        super().__init__(message)
        self.secret = secret


def read_token(secret: Obj) -> str:
    """Return the token in the webhook's Secret.

    Raises:
        SecretError: there is none.
    """
    meta = secret["metadata"]
    where = f"Secret {meta['namespace']}/{meta['name']}"
    text = (secret.get("data") or {}).get(WEBHOOK_KEY)
    try:
        token = base64.b64decode(text or "").decode().strip()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise SecretError(secret, f"{where}: its key {WEBHOOK_KEY} is no text: {error}") from error
    if not token:
        change = "give it one, or delete the Secret and it is made anew"
        raise SecretError(secret, f"{where} has no key {WEBHOOK_KEY}: {change}")
    return token


async def webhook_token(kube: Kube, namespace: str) -> str:
    """Return Alertmanager's token, made when the Secret is missing.

    Raises:
        SecretError: the Secret is there and holds no token.
        ApiError, OSError: it could not be read or made.
    """
    for _ in range(2):
        found = await kube.get("Secret", namespace, WEBHOOK_SECRET)
        if found is not None:
            return read_token({"apiVersion": "v1", "kind": "Secret", **found})
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": WEBHOOK_SECRET,
                "namespace": namespace,
                "labels": {LABEL_MANAGED_BY: FIELD_MANAGER},
            },
            "stringData": {WEBHOOK_KEY: secrets.token_urlsafe(32)},
        }
        try:
            await kube.create(secret)
        except AlreadyExists:
            continue
    raise OSError(f"Secret {namespace}/{WEBHOOK_SECRET} comes and goes")
