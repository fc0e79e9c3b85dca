"""The local cluster: `python3 hack/cluster/cluster.py VERB`. See README.md in this folder.

Only the standard library is used, so that a machine with nothing but Python and Go can begin here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import binaries
from console import ClusterError, say
from controlplane import ControlPlane


def main(arguments: list[str]) -> int:
    """Carry out one verb; 1 after a failure that was explained, 130 after an interrupt."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ClusterError as error:
        print(f"error: {error.explain()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command again continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster.py", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("binaries", help="build the Go programs and print their folder")
    verb.add_argument("names", nargs="*", metavar="NAME", help=", ".join(binaries.NAMES))
    verb.set_defaults(run=_binaries)

    verb = verbs.add_parser("controlplane", help="etcd, kube-apiserver and controller-manager only")
    verb.add_argument("action", choices=["start", "stop"])
    verb.add_argument("--dir", type=Path, required=True, help="holds data, logs and kubeconfig")
    verb.set_defaults(run=_controlplane)
    return parser


def _binaries(options: argparse.Namespace) -> None:
    print(binaries.ensure(options.names or binaries.NAMES))


def _controlplane(options: argparse.Namespace) -> None:
    plane = ControlPlane(options.dir)
    if options.action == "stop":
        plane.stop()
        return
    plane.start()
    say("controlplane", f"ready at {plane.server}")
    print(plane.kubeconfig)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
