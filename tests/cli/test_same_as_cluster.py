"""What a real API server refuses (tests/integration), policyctl refuses without one."""

import json

import pytest
from integration.bad_objects import BAD_TRAININGS
from integration.objects import training
from policy_api.base import ApiModel
from policyctl import manifests
from policyctl.errors import UserError


def rule_messages(model=ApiModel):
    """Yield the sentence of every rule between fields: the same words in a cluster and here."""
    extra = model.model_config.get("json_schema_extra") or {}
    yield from (rule["message"] for rule in extra.get("x-kubernetes-validations", []))
    for child in model.__subclasses__():
        yield from rule_messages(child)


MESSAGES = set(rule_messages())


@pytest.mark.parametrize(("spec", "sentence"), BAD_TRAININGS)
def test_a_bad_training_is_refused_here_as_well(tmp_path, spec, sentence):
    file = tmp_path / "t.yaml"
    file.write_text(json.dumps(training("default", **spec)))
    with pytest.raises(UserError) as refused:
        manifests.read([str(file)])
    said = sentence.rpartition("Invalid value: ")[2]
    if any(message.startswith(said) for message in MESSAGES) or "Duplicate value" in said:
        assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "rate"), [("5e-6", 5e-6), ("1E-3", 1e-3), ("0.5", 0.5), ("1", 1.0)]
)
def test_numbers_are_read_as_kubectl_reads_them(tmp_path, text, rate):
    document = json.dumps(training("default", sft={"epochs": 1, "learningRate": "RATE"}))
    (tmp_path / "t.yaml").write_text(document.replace('"RATE"', text))
    (found,) = manifests.read([str(tmp_path / "t.yaml")])
    assert found.spec.sft.learning_rate == rate
