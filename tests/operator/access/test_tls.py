"""Our CA and certificate: they verify, they are renewed in time, they are kept otherwise."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from policy_operator.access import tls
from policy_operator.machinery.errors import AlreadyExists, Conflict
from policy_operator.ownership import Taken

NOW = datetime.now(UTC)
HOSTS = tls.host_names("policy-operator.system.svc", "system")


def not_after(pem: str) -> datetime:
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


def test_the_names_are_those_that_callers_use():
    assert HOSTS == (
        "policy-operator.system.svc",
        "policy-operator.system",
        "policy-operator.system.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    )


def test_a_bundle_survives_its_secret():
    bundle = tls.renew(None, HOSTS, NOW)
    assert tls.from_secret(tls.to_secret(bundle, "system")) == bundle
    assert tls.from_secret({"data": {"tls.crt": ""}}) is None


def test_nothing_changes_while_nothing_is_due():
    bundle = tls.renew(None, HOSTS, NOW)
    assert tls.renew(bundle, HOSTS, NOW + timedelta(days=50)) is bundle


def test_the_certificate_is_renewed_before_its_end_by_the_same_ca():
    bundle = tls.renew(None, HOSTS, NOW)
    later = NOW + timedelta(days=61)
    renewed = tls.renew(bundle, HOSTS, later)
    assert renewed.ca == bundle.ca
    assert not_after(renewed.cert) > later + timedelta(days=80)


def test_another_name_needs_another_certificate():
    bundle = tls.renew(None, HOSTS, NOW)
    renewed = tls.renew(bundle, (*HOSTS, "10.0.0.7"), NOW)
    assert renewed.cert != bundle.cert
    assert renewed.ca == bundle.ca


def connects(bundle: tls.Bundle, trusted: str) -> bool:
    """Whether a client that trusts these certificates takes the bundle's serving certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
        pair.write(bundle.cert + bundle.key)
        pair.flush()
        server.load_cert_chain(pair.name)
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    def answer(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            server.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=answer, args=(listener,))
        serving.start()
        try:
            with socket.create_connection(listener.getsockname()) as connection:
                client.wrap_socket(connection, server_hostname="localhost").close()
        except ssl.SSLCertVerificationError:
            return False
        else:
            return True
        finally:
            serving.join()


OLD_LEFT = timedelta(days=399)  # of the CA that is to be replaced
HOUR = timedelta(hours=1)


def aged() -> tls.Bundle:
    """Return a bundle whose CA ends in 399 days; certificates are judged by the real clock."""
    made = tls.renew(None, HOSTS, NOW - timedelta(days=3650) + OLD_LEFT)
    return tls.renew(made, HOSTS, NOW - timedelta(days=2))


def announced(old: tls.Bundle) -> tls.Bundle:
    """Return the bundle with its next CA, which was announced six hours ago."""
    return tls.renew(old, HOSTS, NOW - 6 * HOUR)


def test_a_new_ca_is_trusted_before_it_signs():
    old = aged()
    made = announced(old)
    assert made.ca.count("BEGIN CERTIFICATE") == 2
    assert made.next is not None
    assert made.ca.endswith(made.next.cert)
    assert (made.ca_key, made.cert) == (old.ca_key, old.cert)
    for told, at in ((False, NOW - 5 * HOUR), (False, NOW), (True, NOW - 5 * HOUR)):
        step = tls.renew(made, HOSTS, at, told=told)
        assert (step.ca, step.cert) == (made.ca, made.cert), "until all know it"
    assert made.ca.startswith(old.ca)


def test_every_client_connects_throughout_a_rotation():
    old = aged()
    made = announced(old)
    told = tls.renew(made, HOSTS, NOW - 4 * HOUR, told=True)
    waits = tls.renew(told, HOSTS, NOW - 3 * HOUR - timedelta(minutes=1), told=True)
    assert waits is told
    done = tls.renew(told, HOSTS, NOW - 3 * HOUR, told=False)
    assert done.next is None
    assert done.ca_key == told.next.key
    assert tls.renew(done, HOSTS, NOW) is done
    # One that was started before, and was given what changed while it ran; one that came after.
    for bundle in (old, made, told, done):
        assert connects(bundle, made.ca)
        assert connects(bundle, done.ca)
    assert connects(told, old.ca)
    assert not connects(done, old.ca), "which is why it must be told"
    assert not connects(done, tls.renew(None, HOSTS, NOW).ca)


def test_the_old_ca_is_forgotten_when_it_has_expired():
    bundle = tls.renew(None, HOSTS, NOW)
    later = NOW + timedelta(days=3500)
    second = tls.renew(tls.renew(bundle, HOSTS, later), HOSTS, later + 2 * HOUR, told=True)
    second = tls.renew(second, HOSTS, later + 4 * HOUR)
    assert (second.next, bundle.ca in second.ca) == (None, True)
    later += timedelta(days=3500)
    third = tls.renew(tls.renew(second, HOSTS, later), HOSTS, later, told=True)
    third = tls.renew(third, HOSTS, later + 2 * HOUR)
    assert third.next is None
    assert bundle.ca not in third.ca
    assert third.ca.count("BEGIN CERTIFICATE") == 2


def test_a_ca_that_ends_is_replaced_even_when_somebody_can_not_be_told():
    bundle = tls.renew(None, HOSTS, NOW)
    made = tls.renew(bundle, HOSTS, NOW + timedelta(days=3300))
    waits = tls.renew(made, HOSTS, NOW + timedelta(days=3600))
    assert waits.next == made.next
    done = tls.renew(waits, HOSTS, NOW + timedelta(days=3625))
    assert done.next is None
    assert not_after(done.cert) > NOW + timedelta(days=3700)


def test_the_next_ca_survives_its_secret():
    made = announced(aged())
    told = tls.renew(made, HOSTS, NOW, told=True)
    for bundle in (made, told):
        assert tls.from_secret(tls.to_secret(bundle, "system")) == bundle


def serials(ca: str) -> set[int]:
    return {c.serial_number for c in x509.load_pem_x509_certificates(ca.encode())}


FORMER = ("ca.crt", "ca.key", "tls.crt", "tls.key")


def test_an_operator_of_a_former_version_can_write_the_secret_in_between():
    """It knows four keys, takes the first certificate for the one that signs, drops the rest."""
    made = announced(aged())
    secret = tls.to_secret(made, "system")
    issuer = x509.load_pem_x509_certificates(made.ca.encode())[0]
    x509.load_pem_x509_certificate(made.cert.encode()).verify_directly_issued_by(issuer)
    assert issuer.not_valid_after_utc - NOW > timedelta(days=365), "it would replace it at once"
    cert, key = tls.new_cert(made.ca, made.ca_key, HOSTS, NOW - 5 * HOUR)
    kept = {name: secret["data"][name] for name in FORMER}
    written = tls.from_secret({"data": kept})
    assert written is not None
    written = dataclasses.replace(written, cert=cert, key=key)
    assert written.next is None
    again = tls.renew(written, HOSTS, NOW - 4 * HOUR)
    told = tls.renew(again, HOSTS, NOW - 3 * HOUR, told=True)
    done = tls.renew(told, HOSTS, NOW - 1 * HOUR)
    assert done.next is None
    for bundle in (made, written, again, told, done):
        assert connects(bundle, again.ca)
    assert connects(again, made.ca)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_client_that_trusts_the_ca_connects_even_strictly(host):
    authority = tls.Authority("system", HOSTS)
    await authority.ensure(Secrets(), NOW)
    server = await asyncio.start_server(
        lambda _, w: w.close(), "127.0.0.1", 0, ssl=authority.context
    )
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cadata=authority.ca)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=host)
    writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="elsewhere.example"
        )
    server.close()


class Secrets:
    """One Secret with a resource version, as the API server keeps it."""

    def __init__(self) -> None:
        self.stored = None
        self.before_write = None

    async def get(self, *_):
        return self.stored

    async def _interfere(self):
        if self.before_write is not None:
            meanwhile, self.before_write = self.before_write, None
            await meanwhile()

    async def create(self, manifest):
        await self._interfere()
        if self.stored is not None:
            raise AlreadyExists(409, "AlreadyExists", "it exists", "POST")
        self._store(manifest, 1)

    async def replace(self, manifest):
        await self._interfere()
        if manifest["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "it changed", "PUT")
        self._store(manifest, int(manifest["metadata"]["resourceVersion"]) + 1)

    def _store(self, manifest, version):
        meta = {**manifest["metadata"], "resourceVersion": str(version)}
        self.stored = {**manifest, "metadata": meta}


async def test_two_replicas_that_start_at_once_end_with_one_ca():
    secrets = Secrets()
    first, second = tls.Authority("system", HOSTS), tls.Authority("system", HOSTS)
    secrets.before_write = lambda: second.ensure(secrets, NOW)
    await first.ensure(secrets, NOW)
    assert first.ca == second.ca
    assert first.bundle == second.bundle


async def test_a_renewal_is_taken_over_by_the_other_replica():
    secrets = Secrets()
    first, second = tls.Authority("system", HOSTS), tls.Authority("system", HOSTS)
    await first.ensure(secrets, NOW)
    await second.ensure(secrets, NOW)
    await first.ensure(secrets, NOW + timedelta(days=70))
    await second.ensure(secrets, NOW + timedelta(days=70))
    assert second.bundle == first.bundle


def test_the_ca_is_asked_for_only_after_it_was_loaded():
    with pytest.raises(RuntimeError, match="not been loaded"):
        _ = tls.Authority("system", HOSTS).ca


async def test_the_next_ca_signs_only_after_all_clients_were_told():
    secrets = Secrets()
    authority = tls.Authority("system", HOSTS)
    secrets.stored = tls.to_secret(aged(), "system")
    secrets.stored["metadata"]["resourceVersion"] = "1"
    await authority.ensure(secrets, NOW - 6 * HOUR)
    announced_ca = authority.ca
    await authority.ensure(secrets, NOW - 4 * HOUR)
    assert authority.bundle.next is not None
    assert authority.bundle.next.told is None
    authority.told(announced_ca)
    await authority.ensure(secrets, NOW - 3 * HOUR)
    # Another replica takes over from what the Secret says.
    other = tls.Authority("system", HOSTS)
    await other.ensure(secrets, NOW - 2 * HOUR)
    assert other.bundle.next is None
    assert serials(announced_ca) == serials(other.ca)
    assert connects(other.bundle, announced_ca)


async def test_a_secret_of_somebody_else_is_left_alone():
    secrets = Secrets()
    theirs = {
        "kind": "Secret",
        "metadata": {
            "name": tls.SECRET,
            "namespace": "system",
            "resourceVersion": "3",
            "labels": {"app.kubernetes.io/managed-by": "cert-manager"},
        },
        "data": {"tls.crt": ""},
    }
    secrets.stored = theirs
    with pytest.raises(Taken, match=f"Secret {tls.SECRET} exists and is managed by cert-manager"):
        await tls.Authority("system", HOSTS).ensure(secrets, NOW)
    assert secrets.stored is theirs


class ConfigMaps:
    """The CA's ConfigMap of some namespaces."""

    def __init__(self, **stored) -> None:
        self.stored = stored
        self.writes = []

    async def get(self, kind, namespace, name, *, remember):
        return self.stored.get(namespace)

    async def create(self, manifest):
        namespace = manifest["metadata"]["namespace"]
        if namespace in self.stored:
            raise AlreadyExists(409, "AlreadyExists", "it exists", "POST")
        self.writes.append(namespace)
        self.stored[namespace] = manifest

    async def merge_patch(self, kind, namespace, name, patch, *, seen):
        assert seen is self.stored[namespace]
        self.writes.append(namespace)
        self.stored[namespace] = {**seen, **patch}


async def test_the_ca_is_published_where_its_name_is_free_or_ours():
    authority = tls.Authority("system", HOSTS)
    await authority.ensure(Secrets(), NOW)
    wanted = tls.ca_config_map(authority.bundle, "old")
    old = {**wanted, "data": {"ca.crt": "old"}}
    theirs = {**wanted, "metadata": {**wanted["metadata"], "labels": {}}, "data": {"x": "y"}}
    maps = ConfigMaps(theirs=theirs, old=old)
    with pytest.raises(Taken, match=f"ConfigMap {tls.CA_CONFIG_MAP} exists"):
        await authority.publish(maps, "theirs")
    for namespace in ("old", "new", "old", "new"):
        await authority.publish(maps, namespace)
    assert maps.writes == ["old", "new"], "each once"
    assert maps.stored["theirs"] is theirs
    assert maps.stored["old"]["data"] == maps.stored["new"]["data"] == wanted["data"]
