"""The declarative files of the local cluster: they can be filled, and say what they must."""

import re
import shutil
from pathlib import Path

import binaries
import images
import pytest
import settings
import yaml
from template import fill, render

PLACES = dict.fromkeys(
    (
        *("CA", "CERTIFICATE", "CLUSTER_DOMAIN", "CNI_CONFIG", "DEFAULT_CLASS", "DNS_SERVICE_IP"),
        *("KEY", "KUBECONFIG", "LEASES", "MADE_FROM", "NODE", "PAUSE", "PLUGINS", "POD_LOGS"),
        *("POD_SUBNET", "RESOLV_CONF", "ROOT", "SOCKET", "STATE", "VOLUMES"),
    ),
    "x",
)
MANIFESTS = sorted(settings.MANIFESTS.glob("*.yaml"))


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(render(path, PLACES)))


def test_a_place_without_a_value_is_an_error():
    with pytest.raises(KeyError, match="MISSING"):
        fill("a @MISSING@ place", {})


def test_what_is_no_place_stays():
    assert fill('"@timestamp" user@example.org', {}) == '"@timestamp" user@example.org'


@pytest.mark.parametrize(
    "path", [*MANIFESTS, *settings.HERE.glob("node/*")], ids=lambda path: path.name
)
def test_files_are_filled_without_a_rest(path):
    assert not re.search(r"@[A-Z_]+@", render(path, PLACES))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_meet_the_restricted_standard(path):
    for document in documents(path):
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_run_only_images_that_are_made_here(path):
    known = {image.name for image in images.PRODUCT}
    known |= {f"docker.io/policyops/{name}:dev" for name in images.COMPONENTS}
    text = path.read_text()
    assert set(re.findall(r"image: (\S+)", text)) <= known


def test_alerts_arrive_alone_and_at_once():
    config = next(
        document
        for document in documents(settings.MANIFESTS / "monitoring.yaml")
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] == "alertmanager"
    )
    route = yaml.safe_load(config["data"]["alertmanager.yml"])["route"]
    assert route["group_by"] == ["..."]
    assert route["group_wait"] == "0s"


def test_the_kubernetes_modules_agree_on_one_release():
    text = (binaries.SOURCES / "go.mod").read_text()
    major, _, rest = settings.KUBERNETES_VERSION.partition(".")
    assert major == "1"
    assert f"k8s.io/kubernetes v1.{rest}" in text
    replaced = re.findall(r"(k8s\.io/\S+) => (k8s\.io/\S+) v0\.(\d+\.\d+)\n", text)
    assert replaced
    for module, by, release in replaced:
        assert (module, release) == (by, rest)


def test_coredns_has_the_plugins_that_its_configuration_names():
    config = next(
        document
        for document in documents(settings.MANIFESTS / "coredns.yaml")
        if document["kind"] == "ConfigMap"
    )
    used = re.findall(r"^    (\w+)", config["data"]["Corefile"], re.MULTILINE)
    text = (binaries.SOURCES / "coredns" / "main.go").read_text()
    assert set(used) == set(re.findall(r"coredns/plugin/(\w+)", text))


def test_what_both_modules_need_has_one_version():
    def versions(module: Path) -> dict[str, str]:
        lines = re.findall(r"^\t(\S+) (v\S+) // indirect$", module.read_text(), re.MULTILINE)
        return {name: version for name, version in lines if "k8s.io/" not in name}

    own = versions(binaries.SOURCES / binaries.CONTOUR / "go.mod")
    others = versions(binaries.SOURCES / "go.mod")
    assert len(own.keys() & others.keys()) > 50
    assert {name: own[name] for name in own.keys() & others} == {
        name: others[name] for name in own.keys() & others
    }


def test_kube_knows_the_names_that_call_it():
    (kube,) = (program for program in binaries.PROGRAMS if program.aliases)
    text = (binaries.SOURCES / "kube" / "main.go").read_text()
    assert set(re.findall(r'case "(\S+)":', text)) == set(kube.names)


def test_a_program_of_ours_has_its_source():
    for program in binaries.PROGRAMS:
        if program.package.startswith("./"):
            assert (binaries.SOURCES / program.package / "main.go").exists(), program.package


def test_a_changed_source_changes_the_key(tmp_path, monkeypatch):
    before = binaries.key()
    shutil.copytree(binaries.SOURCES, tmp_path / "go")
    monkeypatch.setattr(binaries, "SOURCES", tmp_path / "go")
    assert binaries.key() == before
    main = tmp_path / "go" / "coredns" / "main.go"
    main.write_text(main.read_text() + "// changed\n")
    assert binaries.key() != before
