"""Data preparation beside a loop that only reads the same file; prints a table.

    python benchmarks/prepare.py [--gib 5]

The file is JSON Lines of answers, about 500 bytes each, of which a twentieth was logged twice and
one in a hundred is of no use. It is made in the cache and removed afterwards. Needs no torch.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("POLICYOPS_CACHE", Path.home() / ".cache" / "policy-operator"))
GIB = 2**30
ROOM = 2.5  # times the file: itself, what is made of it, and what is remembered of the rows
BAD = ("not json\n", '{"prompt": "no answer"}\n', '{"prompt": "", "completion": "c"}\n')
FLOOR = """
import json, sys
for line in open(sys.argv[1], "rb"):
    try:
        json.loads(line)
    except ValueError:
        pass
"""


def write(file: Path, size: int) -> int:
    """Write a file of this size; return how many rows it has."""
    chance = random.Random(0)
    words = [f"w{chance.randrange(10**6):06d}" for _ in range(5000)]
    rows, written, earlier = 0, 0, ""
    with file.open("w") as output:
        while written < size:
            kind = chance.random()
            if kind < 0.01:
                line = chance.choice(BAD).replace("not json", f"not json {rows}")
            elif kind < 0.06 and earlier:
                line = earlier
            else:
                start = chance.randrange(4900)
                asked = " ".join(words[start : start + 20])
                said = " ".join(words[start : start + 35])
                earlier = f'{{"prompt": "{rows} {asked}", "completion": "{said}"}}\n'
                line = earlier
            output.write(line)
            rows += 1
            written += len(line)
    return rows


def measured(*command: str) -> tuple[float, float]:
    """Run a program; return its seconds and its peak memory in MiB."""
    path = os.pathsep.join(str(REPO / folder) for folder in ("api", "models", "trainer_image"))
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": path}
    child = subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=5.0, help="size of the file")
    size = int(parser.parse_args().gib * GIB)
    CACHE.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(CACHE).free) < ROOM * size:
        sys.exit(f"{CACHE} has {free / GIB:.1f} GiB left, this needs {ROOM * size / GIB:.1f}")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="bench-prepare-") as name:
        file, output = Path(name) / "log.jsonl", Path(name) / "out"
        rows = write(file, size)
        floor, floor_memory = measured("-c", FLOOR, str(file))
        wanted = ("prepare", "SFT", str(file), "--output", str(output))
        seconds, memory = measured("-m", "policy_trainer.data_tools", *wanted)
        report = json.loads((output / "report.json").read_text())
    assert report["read"] == rows == report["kept"] + sum(d["rows"] for d in report["dropped"])
    print(f"{size / GIB:.1f} GiB, {rows:,} rows, {report['kept']:,} kept")
    print("| program | s | MB/s | peak memory, MiB | times the floor |")
    print("|---|---|---|---|---|")
    for told, took, peak in (
        ("floor: json.loads of each line", floor, floor_memory),
        ("policyctl data prepare", seconds, memory),
    ):
        rate = size / took / 1e6
        print(f"| {told} | {took:.0f} | {rate:.0f} | {peak:.0f} | {took / floor:.1f} |")
    print("aim: under 500 MB at 5 GB")


if __name__ == "__main__":
    main()
