"""The local cluster: `python3 hack/cluster/cluster.py VERB`. See README.md in this folder.

Only the standard library is used, so that a machine with nothing but Python and Go can begin here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import binaries
import lifecycle
import packages
import smoke
from console import ClusterError, say
from controlplane import ControlPlane
from settings import KUBECONFIG


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

    verb = verbs.add_parser("up", help="bring the cluster up, or repair it; prints the kubeconfig")
    verb.add_argument(
        "--images", action="store_true", help="build and load the product's images too"
    )
    verb.set_defaults(run=_up)

    verb = verbs.add_parser("images", help="build the product's images and load them")
    verb.add_argument("names", nargs="*", metavar="NAME", help="operator, trainer, server; or all")
    verb.set_defaults(run=lambda options: lifecycle.provide_images(options.names))

    verb = verbs.add_parser("status", help="what runs and what does not")
    verb.set_defaults(run=lambda _: lifecycle.status())

    verb = verbs.add_parser("check", help="prove names, volumes, routes and monitoring with pods")
    verb.set_defaults(run=lambda _: smoke.run())

    verb = verbs.add_parser("kubeconfig", help="print the kubeconfig's path")
    verb.set_defaults(run=lambda _: print(KUBECONFIG))

    verb = verbs.add_parser("down", help="remove the cluster; the cache stays")
    verb.set_defaults(run=lambda _: lifecycle.down())

    verb = verbs.add_parser("binaries", help="build the Go programs and print their folder")
    verb.add_argument("names", nargs="*", metavar="NAME", help=", ".join(binaries.NAMES))
    verb.add_argument("--tests", action="store_true", help="those that tests need; without: all")
    verb.set_defaults(run=_binaries)

    verb = verbs.add_parser("controlplane", help="etcd, kube-apiserver and controller-manager only")
    verb.add_argument("action", choices=["start", "stop"])
    verb.add_argument("--dir", type=Path, required=True, help="holds data, logs and kubeconfig")
    verb.set_defaults(run=_controlplane)
    return parser


def _up(options: argparse.Namespace) -> None:
    lifecycle.up(with_images=options.images)
    print(KUBECONFIG)


def _binaries(options: argparse.Namespace) -> None:
    group = binaries.TESTS if options.tests else binaries.NAMES
    if options.tests and packages.installable():
        packages.ensure(packages.TEST_PACKAGES)
    print(binaries.ensure(options.names or group))


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
