"""Our CA and certificate: they verify, they are renewed in time, they are kept otherwise."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from policy_operator.access import tls
from policy_operator.machinery.kube import AlreadyExists, Conflict

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


def test_a_new_ca_leaves_the_old_one_trusted_until_it_expires():
    bundle = tls.renew(None, HOSTS, NOW)
    renewed = tls.renew(bundle, HOSTS, NOW + timedelta(days=3400))
    assert renewed.ca.endswith(bundle.ca)
    assert renewed.ca.count("BEGIN CERTIFICATE") == 2
    much_later = tls.renew(renewed, HOSTS, NOW + timedelta(days=6700))
    assert bundle.ca not in much_later.ca


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
