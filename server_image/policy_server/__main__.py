"""`python -m policy_server`: serve the version that the environment names."""

import asyncio
import logging
import os
import sys

from policy_api import keys
from policy_models import policy
from policy_models.decision import Policy

from policy_server import logs
from policy_server.artifact import Artifact
from policy_server.lifecycle import last_word, serve
from policy_server.settings import Settings, SettingsInvalidError

SWITCH_SECONDS = 0.0005


def open_policy(artifact: Artifact, settings: Settings) -> Policy:
    """Open an artifact whose checksums hold."""
    return policy.open_policy(
        artifact.folder,
        artifact.manifest,
        threads=settings.threads,
        draft_tokens=settings.draft_tokens,
    )


def main() -> int:
    """Run until a signal; return the exit code."""
    logs.setup()
    # The decision log's thread must not keep the event loop waiting for 5 ms, Python's default.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        return asyncio.run(serve(Settings.from_env(os.environ), open_policy))
    except SettingsInvalidError as error:
        logging.getLogger(__name__).error("refusing to serve: %s", error)  # noqa: TRY400
        last_word(Settings.termination_log_of(os.environ), str(error))
        return keys.EXIT_CONFIG_INVALID


if __name__ == "__main__":
    sys.exit(main())
