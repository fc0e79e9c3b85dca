"""ConstrainedPPO: the simulation keeps its rules, the multipliers settle, the limits hold."""

import json
import random

import gymnasium
import numpy as np
import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.recipes.constrained_ppo import ConstrainedPPO
from policy_models import offers
from policy_models.offers import Customers
from policy_trainer import offer_baselines
from policy_trainer.offer_environment import OfferEnv
from trainer.worlds import StopAt, config, sha256

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]

BLOCK = ConstrainedPPO(value="fee", periods=6)


def customers(count=4000, seed=0):
    chance = np.random.default_rng(seed)
    risk, acceptance = chance.beta(1, 3, count), chance.beta(2, 5, count)
    value = chance.uniform(10, 100, count)
    return Customers(risk, acceptance, value, float(value.mean()))


def never(_env, observed, _chance):
    return np.zeros(len(observed), dtype=int)


def always(env, _observed, _chance):
    return np.where(env.masks()[:, -1], len(env.masks()[0]) - 1, 0)


def test_it_is_an_environment_of_gymnasium():
    env = OfferEnv(customers(8), BLOCK)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    observed, _ = env.reset(seed=1)
    assert env.observation_space.contains(observed)
    observed, rewards, *_ = env.step(env.action_space.sample() * 0)
    assert env.observation_space.contains(observed)
    assert rewards.shape == (8,)


def test_without_offers_customers_leave_as_the_risk_says():
    known = customers()
    found = offer_baselines.play(known, BLOCK, never, seed=3)
    assert found["cost"] == found["contact_rate"] == 0
    env = OfferEnv(known, BLOCK)
    env.reset(seed=3)
    for _ in range(BLOCK.periods):
        env.step(np.zeros(len(known.value), dtype=int))
    assert (~env.alive).mean() == pytest.approx(known.risk.mean(), abs=0.02)


def test_offers_keep_customers_cost_money_and_never_tire_them():
    known = customers()
    none, all_ = (offer_baselines.play(known, BLOCK, c, seed=3) for c in (never, always))
    assert all_["cost"] > 0.01
    assert all_["fatigue_over_cap"] == 0
    assert all_["contact_rate"] < BLOCK.fatigue.max_contacts / BLOCK.fatigue.window
    assert all_["nrr"] + all_["cost"] > none["nrr"]  # before the cost of it, more revenue stays


def test_the_same_seed_is_the_same_luck_whatever_is_chosen_before():
    known = customers()
    thompson = offer_baselines.baselines(known, BLOCK, 0)["thompson"]
    first = offer_baselines.play(known, BLOCK, thompson, seed=3)
    offer_baselines.play(known, BLOCK, thompson, seed=4)
    assert offer_baselines.play(known, BLOCK, thompson, seed=3) == first


def test_the_baselines_keep_the_limits_on_the_customers_that_they_know():
    known = customers()
    for name, chooser in offer_baselines.baselines(known, BLOCK, 0).items():
        found = offer_baselines.play(known, BLOCK, chooser, seed=0)
        assert found["cost"] <= BLOCK.budget, name
        assert found["contact_rate"] <= BLOCK.contact_rate, name


def write(file, count, seed):
    chance = random.Random(seed)
    with file.open("w") as rows:
        for _ in range(count):
            calls, age = chance.randrange(6), chance.randrange(20, 70)
            row = {"calls": calls, "age": age, "fee": chance.uniform(10, 100)}
            row["left"] = int(chance.random() < 0.05 + 0.13 * calls)
            row["accepted"] = int(chance.random() < 0.1 + 0.01 * (70 - age))
            rows.write(json.dumps(row) + "\n")


def artifact(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("models")
    write(made / "train.jsonl", 1500, 1)
    write(made / "validation.jsonl", 1000, 2)
    return made


@pytest.fixture
def models(folder, attempt):
    """References to a risk and an acceptance model; each is trained once."""
    made = []
    for number, (role, label) in enumerate((("risk", "left"), ("acceptance", "accepted")), 1):
        forbidden = [name for name in ("left", "accepted", "fee") if name != label]
        block = {"label": label, "forbidden": forbidden, "xgboost": {"rounds": 40}}
        run = config(folder, role, recipe="Classifier", sft=None, classifier=block, base={})
        assert attempt(run).outcome is Outcome.COMPLETED
        where = folder / "policies" / "review-forge" / str(number)
        found = {"path": str(where), "sha256": sha256(where / "policy.json")}
        named = {"uri": f"pvc://a/{number}", "policy": "review-forge", "version": number}
        made.append({"name": role, "artifact": {**found, **named}})
    return made


def wanted(root, folder, uid, models, **changes):
    block = {
        "value": "fee",
        "periods": 6,
        "iterations": 5,
        "customers": 128,
        "miniBatchSize": 64,
        "evaluationSeeds": 4,
        **changes.pop("block", {}),
    }
    data = [
        {"name": n, "uri": f"file:///{n}", "path": str(folder / f"{n}.jsonl")}
        for n in ("train", "validation")
    ]
    fields = {"recipe": "ConstrainedPPO", "sft": None, "constrainedPPO": block, "base": {}}
    return config(root, uid, **{**fields, "data": data, "references": models, **changes})


def test_it_keeps_more_revenue_within_its_limits_than_the_baselines(
    folder, models, attempt, tmp_path
):
    block = {
        "iterations": 120,
        "customers": 1024,
        "miniBatchSize": 256,
        "evaluationSeeds": 10,
        "budget": 0.01,
    }
    criteria = [
        {"metric": "nrr", "lowerBound": 0, "against": "best-baseline"},
        {"metric": "constraint_violation", "max": 0.05},
        {"metric": "fatigue_over_cap", "max": 0},
    ]
    report = attempt(wanted(tmp_path, folder, "whole", models, block=block, exitCriteria=criteria))
    assert report.outcome is Outcome.COMPLETED, report.message
    where, made = artifact(tmp_path, 1)
    assert all(verdict.met for verdict in made.exit_criteria), report.metrics
    assert made.kind == "OfferPolicy"
    kept = json.loads((where / "offer_policy.json").read_text())
    assert max(kept["multipliers"].values()) > 0.1  # at least one limit had to be held
    assert (where / "risk" / "classifier.json").exists()
    assert (where / "acceptance" / "trees.json").exists()


def test_a_run_that_was_stopped_goes_on_bit_exactly(folder, models, attempt, tmp_path):
    whole = attempt(wanted(tmp_path, folder, "whole", models))
    assert whole.outcome is Outcome.COMPLETED, whole.message
    stopped = attempt(wanted(tmp_path, folder, "parts", models), StopAt(look=4))
    assert (stopped.outcome, stopped.step) == (Outcome.PREEMPTED, 3)
    rest = attempt(wanted(tmp_path, folder, "parts", models))
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 3)
    for name in (offers.FILE, offers.WEIGHTS):
        assert sha256(artifact(tmp_path, 1)[0] / name) == sha256(artifact(tmp_path, 2)[0] / name)
    assert whole.metrics == rest.metrics


@pytest.mark.parametrize(
    ("changes", "outcome", "message"),
    [
        ({"block": {"value": "price"}}, "DataInvalid", "field 'price' is missing, wanted a number"),
        ({"references": []}, "ConfigInvalid", "name a classifier"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    folder, models, attempt, tmp_path, changes, outcome, message
):
    report = attempt(wanted(tmp_path, folder, "refused", models, **changes))
    assert report.outcome == outcome
    assert message in report.message
