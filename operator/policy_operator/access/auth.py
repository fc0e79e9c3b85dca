"""Who calls our HTTPS server: a trainer pod by its projected token, Alertmanager by a Secret."""

import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from policy_api.keys import FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_TRAINING

from policy_operator.machinery.cache import Cache, Obj
from policy_operator.machinery.kube import AlreadyExists, Kube

WEBHOOK_SECRET = "policy-operator-webhook"  # noqa: S105 - a name
WEBHOOK_KEY = "token"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_SERVICE_ACCOUNT = "system:serviceaccount:"
# A trainer posts every 5 s with one token: a review a minute is enough.
_BELIEVED_SECONDS = 60.0
_BELIEVED_TOKENS = 2000


@dataclass(frozen=True)
class PodIdentity:
    """The pod that a token was issued to."""

    namespace: str
    name: str
    uid: str


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
        self._believed: OrderedDict[bytes, tuple[float, PodIdentity]] = OrderedDict()

    async def identify(self, token: str) -> PodIdentity | None:
        """Return the pod that holds the token; None when the token is no good.

        Raises:
            ApiError, OSError, TimeoutError: the API server could not be asked.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._believed.get(digest)
        if known is not None and self._clock() - known[0] < _BELIEVED_SECONDS:
            return known[1]
        answer = await self._kube.create(token_review(token, self._audience))
        identity = pod_identity(answer, self._audience)
        if identity is not None:
            self._believed[digest] = (self._clock(), identity)
            self._believed.move_to_end(digest)
            if len(self._believed) > _BELIEVED_TOKENS:
                self._believed.popitem(last=False)
        return identity

    def trains(self, pod: PodIdentity, namespace: str, training: str) -> bool:
        """Whether this very pod belongs to the training."""
        found = self._cache.get("Pod", pod.namespace, pod.name)
        if found is None or pod.namespace != namespace or found["metadata"]["uid"] != pod.uid:
            return False
        return (found["metadata"].get("labels") or {}).get(LABEL_TRAINING) == training


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
