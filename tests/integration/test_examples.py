"""The examples, as kustomize makes them, are accepted by a real API server."""

from pathlib import Path

import pytest
from controlplane import ControlPlane
from integration.client import Api

EXAMPLES = Path(__file__).parents[2] / "examples"
OVERLAYS = sorted(
    file.parent.relative_to(EXAMPLES)
    for file in EXAMPLES.rglob("kustomization.yaml")
    if file.parent.name not in {"data", "serving", "vllm"}  # jobs, gateways, no trainings
)


@pytest.fixture(scope="module", autouse=True)
def example_namespace(api: Api) -> None:
    """The namespace that the examples name."""
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}})


@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
def test_an_overlay_is_accepted(control_plane: ControlPlane, overlay: Path) -> None:
    said = control_plane.kubectl("apply", "--dry-run=server", "-k", str(EXAMPLES / overlay))
    assert all(line.endswith("created (server dry run)") for line in said.splitlines())
    assert said.startswith("policytraining.policyops.dev/")


def test_a_deployment_on_another_engine_is_accepted(control_plane: ControlPlane) -> None:
    overlay = str(EXAMPLES / "review-forge" / "vllm")
    said = control_plane.kubectl("apply", "--dry-run=server", "-k", overlay)
    assert said == "policydeployment.policyops.dev/review-forge created (server dry run)\n"
