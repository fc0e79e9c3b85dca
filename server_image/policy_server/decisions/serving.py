"""What the deployment says of serving, as far as this version can do it, and the file that says it.

The file may change at any time. It is read beside the event loop, once a second, and compared by
its content: the kubelet renews it behind a symbolic link.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydantic
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.serving import ServingConfig, parse_serving
from policy_models.answers import AnswerCheck
from policy_models.baselines import Chooser, UnavailableError, open_baseline
from policy_models.decision import Policy
from policy_models.policy import TEXT

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """What is in force."""

    config: ServingConfig
    baseline: Chooser | None = None
    problems: tuple[str, ...] = ()
    """What this version can't do of what the deployment says: a sentence each."""


def in_force(
    config: ServingConfig, policy: Policy, manifest: PolicyManifest, *, writes: bool
) -> Serving:
    """Return what this version can do of what the deployment says; it serves in any case."""
    problems = []
    baseline: Chooser | None = None
    if config.baseline is not None:
        check = AnswerCheck(manifest.answer_schema)
        try:
            baseline = open_baseline(config.baseline, policy, check, writes=writes)
        except UnavailableError as error:
            problems.append(f"{error}; without it, nothing answers in the policy's place")
    if config.exploration is not None and manifest.kind in TEXT:
        config = config.model_copy(update={"exploration": None})
        problems.append(
            f"exploration is for policies that choose actions, and a {manifest.kind} does not: "
            "remove exploration"
        )
    return Serving(config, baseline, tuple(problems))


class ServingFile:
    """Follows the file; a bad one leaves what the last good one said in force.

    Args:
        path: The file; there need not be one: then the defaults are in force.
        apply: Takes what it says.
        refused: Counts a file that could not be read.
    """

    def __init__(
        self, path: Path, apply: Callable[[ServingConfig], None], refused: Callable[[], None]
    ) -> None:
        self._path, self._apply, self._refused = path, apply, refused
        self._last: bytes | None = None

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read the file, and apply it when it is another than before."""
        try:
            content = await asyncio.to_thread(self._path.read_bytes)
        except FileNotFoundError:
            content = None
        except OSError as error:
            content = str(error).encode()  # no JSON: it is refused below, once
        if content == self._last:
            return
        self._last = content
        if content is None:
            log.warning("%s is gone: what it said stays in force", self._path)
            return
        try:
            config, strange = parse_serving(content)
        except ValueError as error:
            self._refused()
            log.error("%s: what was in force stays so", _sentence(error))  # noqa: TRY400
            return
        if strange is not None:
            log.warning("%s is unknown to this server, which does without it", strange)
        try:
            self._apply(config)
        except Exception:  # a fault of ours in what is optional must not end the server
            self._refused()
            log.exception("serving.json could not be put in force")


def _sentence(error: ValueError) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"serving.json is not what this server reads: {where}: {first['msg']}"
