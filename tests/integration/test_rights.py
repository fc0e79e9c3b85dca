"""The roles that we ship are what the operator needs, and nothing else. Runs after all others."""

from pathlib import Path

import pytest
from controlplane import ControlPlane
from integration.rights import UNSEEN, asked, granted


def test_the_operator_has_the_rights_that_it_uses_and_no_others(
    request: pytest.FixtureRequest, control_plane: ControlPlane
) -> None:
    here = Path(__file__).parent
    ran = {item.path for item in request.session.items}
    if not {*here.glob("test_*.py")} <= ran or request.session.testsfailed:
        pytest.skip("rights that are not used are found by all of tests/integration, passing")
    used, forbidden = asked(control_plane.audit_log)
    assert forbidden == set()
    assert granted() - used == UNSEEN
