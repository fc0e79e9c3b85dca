"""`python -m policy_server.fetch`: have a version's artifact there, checked, for another program.

It runs before an engine that is not ours, which knows nothing of checksums, and is told by the same
variables as the server. A remote artifact is in $DOWNLOAD_FOLDER/<sha256> then; one on a volume
stays where it is. Exports are for other programs, so they are there too.
"""

import logging
import os
import sys

from policy_api import keys

from policy_server import logs
from policy_server.artifact import ArtifactRefusedError, open_artifact
from policy_server.lifecycle import last_word
from policy_server.settings import Settings, SettingsInvalidError

log = logging.getLogger(__name__)


def main() -> int:
    """Fetch and check; return the exit code."""
    logs.setup()
    try:
        settings = Settings.from_env(os.environ)
        artifact = open_artifact(
            settings.artifact_path,
            sha256=settings.artifact_sha256,
            policy=settings.policy,
            version=settings.version,
            download_folder=settings.download_folder,
            exports=True,
        )
    except (ArtifactRefusedError, SettingsInvalidError) as error:
        log.error("there is no artifact to serve: %s", error)  # noqa: TRY400 - a sentence
        last_word(Settings.termination_log_of(os.environ), str(error))
        refused = isinstance(error, ArtifactRefusedError)
        return keys.EXIT_DATA_INVALID if refused else keys.EXIT_CONFIG_INVALID
    log.info("%s is there, and every checksum holds", artifact.folder)
    return keys.EXIT_SUCCEEDED


if __name__ == "__main__":
    sys.exit(main())
