"""What a server pod gets to know its callers by."""

from policy_api.contract.environment import CALLERS_DIR, TOKEN_FILE_VARIABLE

from policy_operator.machinery.cache import Obj
from policy_operator.rollout.types import PolicyDeployment

_READABLE = 0o440  # by the server's user, through the pod's fsGroup


def tokens(pdep: PolicyDeployment) -> tuple[list[Obj], list[Obj], dict[str, str]]:
    """Return volumes, mounts and environment of a server that asks for tokens; else nothing.

    The volume is optional. A pod whose Secret is missing would otherwise wait without a word, since
    only an Event says why; so the server starts, ends, and says in its last word what is missing.
    """
    auth = pdep.spec.server.auth
    if auth is None or auth.token is None:
        return [], [], {}
    ref = auth.token.secret_ref
    folder = f"{CALLERS_DIR}/{ref.name}"  # its last word has the path: the Secret, and its key
    volume: Obj = {
        "name": "callers",
        "secret": {
            "secretName": ref.name,
            "items": [{"key": ref.key, "path": ref.key}],
            "defaultMode": _READABLE,
            "optional": True,
        },
    }
    mount: Obj = {"name": "callers", "mountPath": folder, "readOnly": True}
    return [volume], [mount], {TOKEN_FILE_VARIABLE: f"{folder}/{ref.key}"}
