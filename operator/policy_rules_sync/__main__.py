"""`python -m policy_rules_sync`."""

import asyncio
import os
import sys
from pathlib import Path

from policy_operator.machinery import logs

from policy_rules_sync.sync import run


def main() -> int:
    """Run the sidecar; return the exit code."""
    logs.setup(os.environ.get("POLICYOPS_LOG_FORMAT", "text"), "INFO")
    folder = Path(os.environ.get("RULES_DIR", "/etc/prometheus/rules"))
    url = os.environ.get("PROMETHEUS_RELOAD_URL", "http://127.0.0.1:9090/-/reload")
    if not folder.is_dir():
        sys.stderr.write(f"RULES_DIR {folder} is no folder\n")
        return 2
    asyncio.run(run(folder, url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
