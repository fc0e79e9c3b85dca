"""A progress bar from what the trainer writes; lines where there is no terminal."""

import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

FILE = "progress.json"
EVERY_PERCENT = 10  # between two lines where there is no terminal


class Progress:
    """Shows the newest report of a training.

    Args:
        folder: Where the trainer writes it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._bar: tqdm[Any] | None = None
        self._said = -1

    def forget(self) -> None:
        """Remove what an earlier run reported."""
        self._file.unlink(missing_ok=True)

    def show(self) -> None:
        """Show the newest report, if there is one."""
        try:
            found = json.loads(self._file.read_bytes())
        except (FileNotFoundError, ValueError):
            return
        step, most = int(found["step"]), int(found["maxSteps"])
        shown = {n: f"{v:.4g}" for n, v in found["metrics"].items() if n in {"loss", "reward"}}
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=most, unit="step", dynamic_ncols=True, leave=False)
            self._bar.set_postfix(shown, refresh=False)
            self._bar.n = step
            self._bar.refresh()
        elif (part := 100 * step // most // EVERY_PERCENT) > self._said:
            self._said = part
            words = " ".join(f"{name} {value}" for name, value in shown.items())
            sys.stderr.write(f"  step {step}/{most} {words}".rstrip() + "\n")

    def note(self, text: str) -> None:
        """Say something between the bars."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Show the last report and take the bar away."""
        self.show()
        if self._bar is not None:
            self._bar.close()
