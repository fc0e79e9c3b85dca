"""Write an artifact's model in another format, after its training: `policyctl artifact export`.

python -m policy_trainer.export_artifact DIR --format GGUF --gguf-type Q8_0 --output DIR
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from policy_api.contract.artifact import MANIFEST, parse_manifest
from policy_api.v1alpha1.store import Export, GGUFType
from policy_api.v1alpha1.version import version_name

from policy_trainer.errors import ConfigInvalidError, RunError, tell
from policy_trainer.exports import write
from policy_trainer.exports.write import Wanted


def export(folder: Path, output: Path, wanted: Wanted) -> list[str]:
    """Write an artifact in other formats; return a line for people of each file.

    Raises:
        ConfigInvalidError: there is no artifact, or it cannot be written so.
    """
    try:
        made = parse_manifest((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigInvalidError(f"{folder} is no artifact: no {MANIFEST} can be read") from error
    name = version_name(made.policy, made.version)
    return [
        f"{output / file.path}: {file.format} {file.gguf_type or ''}".rstrip()
        + f", its outputs differ by at most {file.max_difference:.2g}"
        for file in write.write(folder, output, made.kind, name, wanted)
    ] or [f"{folder} is made of {', '.join(wanted.formats)}: nothing to write"]


def main(arguments: Sequence[str]) -> int:
    """Read the command line, write, return the exit code."""
    parser = argparse.ArgumentParser(prog="policyctl artifact export")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--format", action="append", type=Export, required=True)
    parser.add_argument("--gguf-type", action="append", type=GGUFType)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    wanted = Wanted(given.format, given.gguf_type or [GGUFType.F16])
    try:
        lines = export(given.folder, given.output, wanted)
    except RunError as error:
        return tell(error)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
