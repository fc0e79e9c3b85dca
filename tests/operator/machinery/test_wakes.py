"""Who is woken by a change of what."""

from policy_operator.machinery.queue import Key
from policy_operator.machinery.wakes import Relations


def obj(name, *, labels=None, **spec):
    return {
        "metadata": {"namespace": "ml", "name": name, "labels": labels or {}},
        "spec": spec,
    }


SFT = Key("PolicyTraining", "ml", "sft")
GRPO = Key("PolicyTraining", "ml", "grpo")
PDEP = Key("PolicyDeployment", "ml", "forge")


def known() -> Relations:
    relations = Relations()
    relations.learn(
        "PolicyTraining", obj("grpo", base={"training": {"name": "sft"}}), deleted=False
    )
    relations.learn(
        "PolicyDeployment",
        obj("forge", policy="forge", target={"training": {"name": "grpo"}}),
        deleted=False,
    )
    return relations


def test_a_training_wakes_itself_and_who_waits_for_it():
    relations = known()
    assert relations.concerned("PolicyTraining", obj("sft")) == {SFT, GRPO}
    assert relations.concerned("PolicyTraining", obj("grpo")) == {GRPO, PDEP}


def test_a_version_wakes_its_training_and_deployments_of_its_policy():
    version = obj("forge-v1", policy="forge", training={"name": "sft"})
    assert known().concerned("PolicyVersion", version) == {SFT, GRPO, PDEP}


def test_children_wake_their_owner_by_label():
    relations = known()
    job = obj("sft-0", labels={"policyops.dev/training": "sft"})
    assert relations.concerned("Job", job) == {SFT}
    route = obj("forge", labels={"policyops.dev/deployment": "forge"})
    assert relations.concerned("HTTPRoute", route) == {PDEP}
    assert relations.concerned("ConfigMap", obj("forge-versions")) == set()


def test_a_changed_or_deleted_reference_is_forgotten():
    relations = known()
    moved = obj("grpo", base={"training": {"name": "other"}})
    relations.learn("PolicyTraining", moved, deleted=False)
    assert relations.concerned("PolicyTraining", obj("sft")) == {SFT}
    relations.learn("PolicyTraining", moved, deleted=True)
    other = Key("PolicyTraining", "ml", "other")
    assert relations.concerned("PolicyTraining", obj("other")) == {other}


def test_a_newer_field_beside_references_wakes_nobody_and_stops_nothing():
    relations = Relations()
    reward = {"training": {"name": "sft"}}
    newer = obj("grpo", referenceModels={"reward": reward, "share": True, "order": ["reward"]})
    relations.learn("PolicyTraining", newer, deleted=False)
    assert relations.concerned("PolicyTraining", obj("sft")) == {SFT, GRPO}


def test_a_deployment_wakes_those_whose_servers_ask_its_own():
    relations = known()
    routes = [{"path": "/a"}, {"path": "/b", "then": {"deployment": "writer"}}]
    asking = obj("offers", policy="offers", target={"version": 1}, server={"routes": routes})
    relations.learn("PolicyDeployment", asking, deleted=False)
    offers, writer = (Key("PolicyDeployment", "ml", name) for name in ("offers", "writer"))
    assert relations.concerned("PolicyDeployment", obj("writer")) == {writer, offers}
    assert relations.concerned("PolicyDeployment", obj("offers")) == {offers}
    scored = obj("offers", policy="offers", scoring={"deployment": "writer", "percent": 1})
    relations.learn("PolicyDeployment", scored, deleted=False)
    assert relations.concerned("PolicyDeployment", obj("writer")) == {writer, offers}
    relations.learn("PolicyDeployment", obj("offers", policy="offers"), deleted=False)
    assert relations.concerned("PolicyDeployment", obj("writer")) == {writer}
