"""The environment is read strictly, and says which variable is wrong."""

import json
import logging

import pytest
from policy_operator.machinery import logs
from policy_operator.settings import Settings, from_env


def test_nothing_set_means_the_defaults():
    settings = from_env({"POD_NAME": "policy-operator-0"})
    assert settings == Settings()
    assert settings.host == "policy-operator.policy-operator-system.svc"


def test_everything_can_be_set():
    settings = from_env(
        {
            "POD_NAME": "a",
            "POLICYOPS_NAMESPACE": "ops",
            "POLICYOPS_CA_NAMESPACES": "monitoring, other",
            "POLICYOPS_PROMETHEUS_URL": "http://prometheus:9090",
            "POLICYOPS_WORKERS": "4",
            "POLICYOPS_LEADER_ELECT": "false",
            "POLICYOPS_LOG_FORMAT": "json",
            "POLICYOPS_SERVICE_HOST": "127.0.0.1",
        }
    )
    assert settings.ca_namespaces == ("monitoring", "other")
    assert (settings.workers, settings.leader_elect, settings.host) == (4, False, "127.0.0.1")
    assert settings.prometheus_url == "http://prometheus:9090"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLICYOPS_WORKERS", "many"),
        ("POLICYOPS_LEADER_ELECT", "maybe"),
        ("POLICYOPS_LOG_FORMAT", "xml"),
    ],
)
def test_nonsense_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        from_env({name: value})


def test_each_line_says_which_object_it_is_about(capsys):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.setup("json", "INFO")
        with logs.about("ml/sft PolicyTraining"):
            logging.getLogger("policy_operator.x").info("Job %s is made", "sft-0")
        logging.getLogger("policy_operator.x").info("outside")
        logging.getLogger("some.library").info("chatter")
    finally:
        root.handlers[:], root.level = before
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["object"], line["message"]) for line in lines] == [
        ("ml/sft PolicyTraining", "Job sft-0 is made"),
        ("-", "outside"),
    ]
