"""Write rows as JSON Lines, and say so."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write(file: Path, rows: Iterable[Mapping[str, Any]], told: str = "") -> None:
    """Write rows and say how many; `told` is what else there is to say."""
    lines = [json.dumps(row) + "\n" for row in rows]
    file.write_text("".join(lines))
    print(f"{file}: {len(lines)} rows{told}", flush=True)  # noqa: T201 - the program's output
