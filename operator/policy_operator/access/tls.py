"""Our own certificate authority and serving certificate, kept in one Secret.

Trainers get the CA with their run's ConfigMap, Alertmanager from a ConfigMap in its namespace. A
new CA is made known to all of them first, beside the old one, and signs only when they have it.
"""

import base64
import ipaddress
import logging
import ssl
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from policy_api.contract.environment import CA_FILE
from policy_api.keys import FIELD_MANAGER, LABEL_MANAGED_BY

from policy_operator.children import labelled
from policy_operator.machinery.cache import Obj
from policy_operator.machinery.errors import AlreadyExists, Conflict
from policy_operator.machinery.kube import Kube
from policy_operator.ownership import Taken, keep

log = logging.getLogger(__name__)

SECRET = "policy-operator-tls"  # noqa: S105 - a name
CA_CONFIG_MAP = "policy-operator-ca"
_CA_KEY_FILE = "ca.key"
_NEXT_FILE, _NEXT_KEY_FILE, _NEXT_TOLD_FILE = "next-ca.crt", "next-ca.key", "next-ca.told"
_CA_LIFE = timedelta(days=3650)
# Before its end. An operator of a former version changes it at once, 365 days before its end.
_CA_RENEW = timedelta(days=400)
# A kubelet takes up to two minutes to bring a changed ConfigMap into a pod that runs.
_CA_OVERLAP = timedelta(hours=1)
_CERT_LIFE = timedelta(days=90)
_CERT_RENEW = timedelta(days=30)
_OURS = {LABEL_MANAGED_BY: FIELD_MANAGER}  # how we know what has no owner
_SKEW = timedelta(minutes=5)  # clocks of nodes differ


@dataclass(frozen=True)
class NextCA:
    """The CA that will sign: clients trust it already, or are about to."""

    cert: str
    key: str
    told: datetime | None = None
    """Since when all clients have had it, or their ConfigMaps."""


@dataclass(frozen=True)
class Bundle:
    """PEM texts: certificates that clients trust, the CA's key, the serving pair."""

    ca: str
    """The CA that signs comes first."""
    ca_key: str
    cert: str
    key: str
    next: NextCA | None = None


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def new_ca(now: datetime) -> tuple[str, str]:
    """Return a new CA as (certificate, key)."""
    key = _new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{FIELD_MANAGER} CA")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(cert), _pem_key(key)


def new_cert(ca: str, ca_key: str, hosts: tuple[str, ...], now: datetime) -> tuple[str, str]:
    """Return a serving pair (certificate, key) for these host names and addresses."""
    issuer = x509.load_pem_x509_certificates(ca.encode())[0]
    issuer_key = serialization.load_pem_private_key(ca_key.encode(), password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"the CA's key in Secret {SECRET} is not an elliptic curve key")
    key = _new_key()
    cert = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FIELD_MANAGER)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(now + _CERT_LIFE, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(h) for h in hosts]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return _pem(cert), _pem_key(key)


def renew(
    old: Bundle | None, hosts: tuple[str, ...], now: datetime, *, told: bool = False
) -> Bundle:
    """Return the bundle as it should be now; the same object when nothing is due.

    A CA is replaced in steps, each of which is one write of the Secret: its successor is added to
    what clients trust; once all of them have been told, a while passes; then the successor signs.
    The old one stays trusted until it expires.

    Args:
        old: What the Secret has; None: nothing yet.
        hosts: What the certificate must be for.
        now: The time.
        told: Whether all clients have been given `old.ca`.
    """
    if old is None:
        ca, ca_key = new_ca(now)
        return Bundle(ca, ca_key, *new_cert(ca, ca_key, hosts, now))
    bundle = _announced(old, now, told=told)
    if bundle.next is not None and _may_sign(bundle, bundle.next, now):
        bundle = _succeeded(bundle, bundle.next, hosts, now)
    elif _due(bundle.cert, hosts, now):
        cert, key = new_cert(bundle.ca, bundle.ca_key, hosts, now)
        bundle = replace(bundle, cert=cert, key=key)
    return old if bundle == old else bundle


def _announced(bundle: Bundle, now: datetime, *, told: bool) -> Bundle:
    """Make the next CA known when the end of this one comes near; note when all know it."""
    if bundle.next is None and _left(bundle, now) < _CA_RENEW:
        cert, key = new_ca(now)
        return replace(bundle, ca=bundle.ca + cert, next=NextCA(cert, key))
    if bundle.next is not None and bundle.next.told is None and told:
        at = now.replace(microsecond=0)
        return replace(bundle, next=replace(bundle.next, told=at))
    return bundle


def _left(bundle: Bundle, now: datetime) -> timedelta:
    """Return how long the CA that signs is valid."""
    return x509.load_pem_x509_certificate(bundle.ca.encode()).not_valid_after_utc - now


def _may_sign(bundle: Bundle, successor: NextCA, now: datetime) -> bool:
    """Whether the next CA's time has come: all know it, or this one's end is too near to wait."""
    known = successor.told is not None and now - successor.told >= _CA_OVERLAP
    return known or _left(bundle, now) < _CERT_RENEW


def _succeeded(bundle: Bundle, successor: NextCA, hosts: tuple[str, ...], now: datetime) -> Bundle:
    first = x509.load_pem_x509_certificate(successor.cert.encode())
    others = (
        _pem(c)
        for c in x509.load_pem_x509_certificates(bundle.ca.encode())
        if c.not_valid_after_utc > now and c != first
    )
    cert, key = new_cert(successor.cert, successor.key, hosts, now)
    return Bundle(_pem(first) + "".join(others), successor.key, cert, key)


def _due(pem: str, hosts: tuple[str, ...], now: datetime) -> bool:
    """Whether the serving certificate ends soon, or is not for all of the names."""
    cert = x509.load_pem_x509_certificate(pem.encode())
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ends = cert.not_valid_after_utc - now < _CERT_RENEW
    return ends or not set(names) >= {_alternative(h) for h in hosts}


def to_secret(bundle: Bundle, namespace: str) -> Obj:
    """Return the Secret that keeps a bundle."""
    files = {
        "tls.crt": bundle.cert,
        "tls.key": bundle.key,
        CA_FILE: bundle.ca,
        _CA_KEY_FILE: bundle.ca_key,
    }
    if bundle.next is not None:
        files |= {_NEXT_FILE: bundle.next.cert, _NEXT_KEY_FILE: bundle.next.key}
        if bundle.next.told is not None:
            files[_NEXT_TOLD_FILE] = bundle.next.told.isoformat()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": SECRET,
            "namespace": namespace,
            "labels": dict(_OURS),
        },
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in files.items()},
    }


def from_secret(secret: Obj) -> Bundle | None:
    """Return the bundle in a Secret; None when a part is missing.

    A former version of the operator knows nothing of the next CA: when it writes the Secret, the
    CA's key is gone and its certificate stays trusted. Then another one is announced.
    """
    encoded = secret.get("data") or {}
    if any(n not in encoded for n in (CA_FILE, _CA_KEY_FILE, "tls.crt", "tls.key")):
        return None
    data = {name: base64.b64decode(text).decode() for name, text in encoded.items()}
    successor = None
    if _NEXT_FILE in data and _NEXT_KEY_FILE in data:
        told = data.get(_NEXT_TOLD_FILE)
        at = datetime.fromisoformat(told) if told else None
        successor = NextCA(data[_NEXT_FILE], data[_NEXT_KEY_FILE], at)
    return Bundle(data[CA_FILE], data[_CA_KEY_FILE], data["tls.crt"], data["tls.key"], successor)


def ca_config_map(bundle: Bundle, namespace: str) -> Obj:
    """Return the ConfigMap that publishes the CA in a namespace."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CA_CONFIG_MAP,
            "namespace": namespace,
            "labels": dict(_OURS),
        },
        "data": {CA_FILE: bundle.ca},
    }


class Authority:
    """The bundle in use and the TLS context that serves it."""

    def __init__(self, namespace: str, hosts: tuple[str, ...]) -> None:
        self._namespace = namespace
        self._hosts = hosts
        self._bundle: Bundle | None = None
        self._told = ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def ca(self) -> str:
        """The certificates that clients trust, PEM.

        Raises:
            RuntimeError: `ensure` was not called.
        """
        return self.bundle.ca

    @property
    def bundle(self) -> Bundle:
        """The bundle in use."""
        if self._bundle is None:
            raise RuntimeError("the certificate has not been loaded")
        return self._bundle

    async def ensure(self, kube: Kube, now: datetime) -> None:
        """Read the Secret, or make or renew it; new connections get the new certificate.

        Several replicas may do so at once: the API server lets one win, the others read again.

        Raises:
            Taken: a Secret of this name is not ours.
            ApiError, OSError, TimeoutError: a call failed.
        """
        for _ in range(5):
            secret = await kube.get("Secret", self._namespace, SECRET)
            if secret is not None and not labelled(secret, _OURS):
                raise Taken(secret)
            old = from_secret(secret) if secret else None
            told = old is not None and old.ca == self._told
            new = renew(old, self._hosts, now, told=told)
            if new is not old:
                manifest = to_secret(new, self._namespace)
                try:
                    if secret is None:
                        await kube.create(manifest)
                    else:
                        version = secret["metadata"]["resourceVersion"]
                        manifest["metadata"]["resourceVersion"] = version
                        await kube.replace(manifest)
                except (AlreadyExists, Conflict):
                    continue
            self._load(new)
            return
        raise RuntimeError(f"Secret {self._namespace}/{SECRET} keeps changing")

    def _load(self, bundle: Bundle) -> None:
        if bundle == self._bundle:
            return
        # Python's ssl reads the pair from files only; the folder is gone at once.
        with tempfile.TemporaryDirectory() as folder:
            cert, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            cert.write_text(bundle.cert)
            key.touch(mode=0o600)
            key.write_text(bundle.key)
            self.context.load_cert_chain(cert, key)
        self._bundle = bundle

    def told(self, ca: str) -> None:
        """Hear that all clients have been given these certificates."""
        self._told = ca

    async def publish(self, kube: Kube, namespace: str) -> None:
        """Write the CA's ConfigMap into a namespace.

        Raises:
            Taken: a ConfigMap of this name is not ours.
            ApiError, OSError, TimeoutError: a call failed.
        """
        wanted = ca_config_map(self.bundle, namespace)

        def same(found: Obj) -> bool:
            return bool(found.get("data") == wanted["data"])

        found = await kube.get("ConfigMap", namespace, CA_CONFIG_MAP, remember=False)
        await keep(kube, wanted, found, same)


def host_names(host: str, namespace: str) -> tuple[str, ...]:
    """Return every name that the certificate is for."""
    service = f"{FIELD_MANAGER}.{namespace}"
    return tuple(
        dict.fromkeys(
            (
                host,
                service,
                f"{service}.svc",
                f"{service}.svc.cluster.local",
                "localhost",
                "127.0.0.1",
            )
        )
    )
