"""Small policies as ONNX and JSON, and another team that learns on from an ONNX file."""

import json
from datetime import date
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from policy_api.contract.artifact import Kind
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.store import Export
from policy_models.layers import Layers
from policy_models.offers import ACTIVATION, OBSERVED, OfferPolicy, Rules, Seen
from policy_models.q_policy import QPolicy
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import onnx_check, write
from trainer import agents
from trainer.test_cql import artifact, wanted
from trainer.worlds import sha256

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

STATES = [{"task": t, "languages": ["py"], "success_rate": 0.5} for t in agents.TASKS]


@pytest.fixture
def exported(attempt, tmp_path):
    """A CQL artifact with both exports: its folder, and its policy."""
    store = {
        "uri": "pvc://artifacts/policies",
        "path": str(tmp_path / "policies"),
        "exports": ["ONNX", "JSON"],
    }
    report = attempt(wanted(tmp_path, "first", store=store, block={"maxSteps": 300}))
    assert report.outcome is Outcome.COMPLETED, report.message
    folder, made = artifact(tmp_path, 1)
    assert [e.format for e in made.exports] == ["ONNX", "JSON"]
    return folder, QPolicy.read(folder)


def test_onnxruntime_chooses_as_the_policy_does(exported):
    folder, policy = exported
    session = onnxruntime.InferenceSession(str(folder / "exports" / "review-forge-v1.onnx"))
    states = policy.encoder.dense(STATES).astype(np.float32)
    (found,) = session.run(["q"], {"state": states})
    assert np.abs(found - policy.values(states)).max() < 1e-4
    about = json.loads(session.get_modelmeta().custom_metadata_map["policyops"])
    assert about["action_space"] == ["backend", "frontend", ["security", "backend"]]


def test_the_json_has_all_that_it_takes_to_choose(exported):
    folder, policy = exported
    kept = json.loads((folder / "exports" / "review-forge-v1.json").read_text())
    assert list(kept)[:4] == ["version", "trained_date", "algorithm", "training_episodes"]
    assert kept["version"] == "v1"
    assert date.fromisoformat(kept["trained_date"])
    assert kept["performance"]["accuracy"] > 0.3
    layers = [(np.array(x["weight"]), np.array(x["bias"])) for x in kept["q_network"]["weights"]]
    assert kept["q_network"]["architecture"] == [len(bias) for _, bias in layers[:-1]]
    found = policy.encoder.dense(STATES)
    for number, (weight, bias) in enumerate(layers):
        found = (np.maximum(found, 0) if number else found) @ weight.T + bias
    assert np.allclose(found, policy.values(policy.encoder.dense(STATES)), atol=1e-5)


def test_another_team_learns_on_from_the_onnx_file(exported, attempt, tmp_path):
    folder, policy = exported
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    file = theirs / "policy.onnx"
    file.write_bytes((folder / "exports" / "review-forge-v1.onnx").read_bytes())
    for name, count, seed in (("train", 1200, 5), ("validation", 1000, 6)):
        agents.write(theirs / f"{name}.jsonl", count, seed)
        rows = [json.loads(line) for line in (theirs / f"{name}.jsonl").read_text().splitlines()]
        for row in rows[::10]:
            row["action"] = "human"  # which the first team did not have
        (theirs / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    onnx_file = {"uri": "file:///policy.onnx", "path": str(file), "sha256": sha256(file)}
    kept = {"maxSteps": 1, "learningRate": 1e-6}
    report = attempt(wanted(theirs, "transfer", base={"onnx": onnx_file}, block=kept))
    assert report.outcome is Outcome.COMPLETED, report.message
    learned = QPolicy.read(artifact(theirs, 1)[0])
    assert learned.actions == (*policy.actions, "human")
    before = policy.values(policy.encoder.dense(STATES))
    after = learned.values(learned.encoder.dense(STATES))[:, : len(policy.actions)]
    assert np.abs(after - before).max() < 0.01  # it begins where the first team's ended


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a model", "no ONNX file"),
        (
            onnx.ModelProto(graph=onnx.GraphProto(name="theirs")).SerializeToString(),
            "wanted an ONNX file that recipe CQL exported",
        ),
    ],
)
def test_another_onnx_file_is_refused_in_a_sentence(attempt, tmp_path, content, said):
    file = tmp_path / "policy.onnx"
    file.write_bytes(content)
    base = {"onnx": {"uri": "file:///policy.onnx", "path": str(file)}}
    report = attempt(wanted(tmp_path, "uid", base=base))
    assert report.outcome is Outcome.CONFIG_INVALID
    assert report.field == "base.onnx"
    assert "file:///policy.onnx" in report.message
    assert said in report.message


def test_another_file_than_was_wanted_is_refused(attempt, tmp_path):
    (tmp_path / "policy.onnx").write_bytes(b"changed")
    file = {"uri": "file:///p.onnx", "path": str(tmp_path / "policy.onnx"), "sha256": "0" * 64}
    report = attempt(wanted(tmp_path, "uid", base={"onnx": file}))
    assert (report.outcome, report.field) == (Outcome.DATA_INVALID, "base.onnx.sha256")


def test_onnx_of_an_offer_policy(tmp_path):
    chance = np.random.default_rng(1)
    widths = [len(OBSERVED), 16, 5]
    layers = Layers(
        tuple(
            (chance.normal(size=(out, into)).astype(np.float32), chance.normal(size=out))
            for into, out in pairwise(widths)
        ),
        ACTIVATION,
    )
    seen = Seen("fee", 50.0, Rules(periods=6, most_contacts=2), (0.0,) * len(OBSERVED))
    names = ("no contact", "offer 0.1", "offer 0.2", "offer 0.3", "offer 0.4")
    OfferPolicy(layers, {}, names, seen).write(tmp_path, {"algorithm": "ConstrainedPPO"})
    wanted = write.Wanted([Export.SAFETENSORS, Export.ONNX], [])
    (made,) = write.write(tmp_path, tmp_path / "out", Kind.OFFER_POLICY, "retention-v1", wanted)
    assert made.path == "retention-v1.onnx"
    assert made.max_difference < 1e-4


def test_outputs_that_are_others_are_refused(exported):
    folder, policy = exported
    file = folder / "exports" / "review-forge-v1.onnx"
    states = policy.encoder.dense(STATES).astype(np.float32)
    with pytest.raises(ConfigInvalidError, match=r"differs by 0\.1 in an output, at most 0\.0001"):
        onnx_check.difference(file, {"state": states}, policy.values(states) + 0.1)
