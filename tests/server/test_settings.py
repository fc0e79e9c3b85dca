import pytest
from policy_server.settings import Settings, SettingsInvalidError

GOOD = {
    "POLICY_ARTIFACT_PATH": "/artifacts/review-forge/3",
    "POLICY_ARTIFACT_SHA256": "a" * 64,
    "POLICY_NAME": "review-forge",
    "POLICY_VERSION": "3",
}


def test_defaults_are_those_of_the_pod_contract():
    settings = Settings.from_env(GOOD)
    assert (settings.port, settings.drain_seconds, settings.threads) == (8080, 5.0, 1)
    assert (settings.policy, settings.version) == ("review-forge", 3)
    assert str(settings.termination_log) == "/dev/termination-log"


def test_every_default_of_the_environment_is_the_default_of_the_class():
    assert Settings.from_env(GOOD) == Settings(
        GOOD["POLICY_ARTIFACT_PATH"], GOOD["POLICY_ARTIFACT_SHA256"], "review-forge", 3
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("POLICY_ARTIFACT_PATH", "", "the environment variable POLICY_ARTIFACT_PATH must be set"),
        ("POLICY_NAME", "", "the environment variable POLICY_NAME must be set"),
        ("POLICY_VERSION", "", "the environment variable POLICY_VERSION must be set"),
        (
            "POLICY_VERSION",
            "v3",
            "the environment variable POLICY_VERSION must be a number of at least 1, not 'v3'",
        ),
        (
            "POLICY_VERSION",
            "0",
            "the environment variable POLICY_VERSION must be a number of at least 1, not '0'",
        ),
        (
            "DRAIN_SECONDS",
            "-1",
            "the environment variable DRAIN_SECONDS must be a number of at least 0, not '-1'",
        ),
        (
            "POLICY_ARTIFACT_SHA256",
            "A" * 64,
            "POLICY_ARTIFACT_SHA256 must be the 64 hexadecimal digits of policy.json's sha256",
        ),
        (
            "POLICY_ARTIFACT_SHA256",
            "a" * 64 + "\n",
            "POLICY_ARTIFACT_SHA256 must be the 64 hexadecimal digits of policy.json's sha256",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_must_be(name, value, message):
    with pytest.raises(SettingsInvalidError) as caught:
        Settings.from_env({**GOOD, name: value})
    assert str(caught.value) == message
