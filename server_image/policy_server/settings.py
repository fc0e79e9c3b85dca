"""What the pod's environment tells the server, checked once at start."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from policy_api.base import SHA256
from policy_api.contract.environment import (
    ARTIFACT_PATH_VARIABLE,
    ARTIFACT_SHA256_VARIABLE,
    POLICY_NAME_VARIABLE,
    POLICY_VERSION_VARIABLE,
    SERVING_DIR,
    SERVING_FILE,
    SERVING_PATH_VARIABLE,
    TERMINATION_LOG,
    TOKEN_FILE_VARIABLE,
    TRUST_LOOPBACK_VARIABLE,
)

HANG_SECONDS = 600.0

Number = TypeVar("Number", int, float)


class SettingsInvalidError(Exception):
    """An environment variable is missing or wrong; the message says which and what it must be."""


@dataclass(frozen=True)
class Settings:
    """Everything that the server may be told. All times are in seconds."""

    artifact_path: str
    artifact_sha256: str
    policy: str
    version: int
    host: str = ""  # all addresses
    port: int = 8080
    # From SIGTERM until the server stops accepting. It must outlast the time that the endpoint's
    # removal takes to reach the gateway: about a second for Envoy.
    drain_seconds: float = 5.0
    # Requests that may wait. 64 waiting ones of 50 ms each are 3 s: what waits longer is refused,
    # since its caller has probably given up.
    queue_limit: int = 64
    batch_limit: int = 8
    batch_wait_seconds: float = 0.002
    # After so long in one batch the model is said to hang, and the pod is restarted: far more than
    # eight long answers take on a slow CPU.
    hang_seconds: float = HANG_SECONDS
    # Tokens guessed from earlier answers and checked in one forward pass; 0 turns it off.
    draft_tokens: int = 16
    # Of torch. More threads than the container's CPU limit make a small model many times slower.
    threads: int = 1
    # Tokens of those who may call; without, everybody may.
    token_file: Path | None = None
    # On a laptop: programs of this machine are known callers. Never in a pod.
    trust_loopback: bool = False
    # What the deployment says of serving; without the file the defaults are in force.
    serving_file: Path = Path(SERVING_DIR, SERVING_FILE)
    download_folder: Path = Path("/tmp/policy")  # noqa: S108 - the pod's own emptyDir
    termination_log: Path = Path(TERMINATION_LOG)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read and check the environment.

        Raises:
            SettingsInvalidError: A variable is missing or wrong.
        """
        sha256 = _required(env, ARTIFACT_SHA256_VARIABLE)
        if not re.fullmatch(SHA256, sha256):
            raise SettingsInvalidError(
                f"{ARTIFACT_SHA256_VARIABLE} must be the 64 hexadecimal digits of policy.json's "
                "sha256"
            )
        _required(env, POLICY_VERSION_VARIABLE)
        return cls(
            artifact_path=_required(env, ARTIFACT_PATH_VARIABLE),
            artifact_sha256=sha256,
            policy=_required(env, POLICY_NAME_VARIABLE),
            version=_number(env, POLICY_VERSION_VARIABLE, int, 1, 1),
            host=env.get("HOST", ""),
            port=_number(env, "PORT", int, 8080, 0),
            drain_seconds=_number(env, "DRAIN_SECONDS", float, 5.0, 0),
            queue_limit=_number(env, "QUEUE_LIMIT", int, 64, 1),
            batch_limit=_number(env, "BATCH_LIMIT", int, 8, 1),
            batch_wait_seconds=_number(env, "BATCH_WAIT_SECONDS", float, 0.002, 0),
            hang_seconds=_number(env, "HANG_SECONDS", float, HANG_SECONDS, 0.1),
            draft_tokens=_number(env, "DRAFT_TOKENS", int, 16, 0),
            token_file=_path(env, TOKEN_FILE_VARIABLE),
            trust_loopback=env.get(TRUST_LOOPBACK_VARIABLE, "") == "1",
            threads=_number(env, "OMP_NUM_THREADS", int, 1, 1),
            serving_file=Path(env.get(SERVING_PATH_VARIABLE) or cls.serving_file),
            download_folder=Path(env.get("DOWNLOAD_FOLDER", "/tmp/policy")),  # noqa: S108
            termination_log=cls.termination_log_of(env),
        )

    @staticmethod
    def termination_log_of(env: Mapping[str, str]) -> Path:
        """Return where the last word goes; it is needed also when the rest is wrong."""
        return Path(env.get("TERMINATION_LOG", TERMINATION_LOG))


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise SettingsInvalidError(f"the environment variable {name} must be set")
    return value


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "")
    return Path(text) if text else None


def _number(
    env: Mapping[str, str],
    name: str,
    convert: Callable[[str], Number],
    default: Number,
    least: Number,
) -> Number:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or value < least:
        raise SettingsInvalidError(
            f"the environment variable {name} must be a number of at least {least}, not {text!r}"
        )
    return value
