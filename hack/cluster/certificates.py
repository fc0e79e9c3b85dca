"""A certificate authority for one cluster, and the certificates and kubeconfigs it signs.

The real `openssl` program does the cryptography (keys are P-256, so this takes milliseconds). A
certificate is made once and kept; it is made anew when the names it has to carry change.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from console import ClusterError

_DAYS = "825"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: Path
    key: Path


def openssl(*arguments: str, stdin: str = "") -> str:
    """Run openssl and return what it printed. Raises ClusterError with its complaint."""
    try:
        result = subprocess.run(
            ["openssl", *arguments], input=stdin, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ClusterError("openssl is needed to make the cluster's certificates.") from error
    if result.returncode != 0:
        raise ClusterError(f"openssl {arguments[0]} failed: {result.stderr.strip()}")
    return result.stdout


class Authority:
    """The cluster's certificate authority, in a folder that only its owner reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.ca = self._self_signed("ca", "policyops-local-cluster")

    def _self_signed(self, name: str, common_name: str) -> Pair:
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        if not pair.certificate.exists():
            self._private_key(pair.key)
            openssl(
                *("req", "-x509", "-new", "-key", str(pair.key), "-days", _DAYS),
                *("-subj", f"/CN={common_name}", "-out", str(pair.certificate)),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
            )
        return pair

    def _private_key(self, path: Path) -> None:
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path))
        path.chmod(0o600)

    def issue(
        self,
        name: str,
        common_name: str,
        *,
        organization: str = "",
        hosts: tuple[str, ...] = (),
        addresses: tuple[str, ...] = (),
    ) -> Pair:
        """Issue a certificate good for both ends of a connection.

        `common_name` and `organization` are the user and the group that Kubernetes sees.
        """
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        names = [f"DNS:{host}" for host in hosts] + [f"IP:{address}" for address in addresses]
        extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature,keyEncipherment",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]
        if names:
            extensions.append(f"subjectAltName={','.join(names)}")
        subject = f"/O={organization}/CN={common_name}" if organization else f"/CN={common_name}"
        request = json.dumps([subject, extensions])
        asked = self._folder / f"{name}.request"
        if pair.certificate.exists() and asked.exists() and asked.read_text() == request:
            return pair
        self._private_key(pair.key)
        signing = openssl("req", "-new", "-key", str(pair.key), "-subj", subject)
        extension_file = self._folder / f"{name}.ext"
        extension_file.write_text("\n".join(extensions) + "\n")
        openssl(
            *("x509", "-req", "-days", _DAYS, "-extfile", str(extension_file)),
            *("-CA", str(self.ca.certificate), "-CAkey", str(self.ca.key), "-CAcreateserial"),
            *("-out", str(pair.certificate)),
            stdin=signing,
        )
        asked.write_text(request)
        return pair

    def signing_key(self, name: str) -> Pair:
        """A bare key pair, as service-account tokens are signed with; `certificate` is public."""
        pair = Pair(self._folder / f"{name}.pub", self._folder / f"{name}.key")
        if not pair.certificate.exists():
            self._private_key(pair.key)
            openssl("ec", "-in", str(pair.key), "-pubout", "-out", str(pair.certificate))
        return pair

    def kubeconfig(self, path: Path, server: str, client: Pair, user: str) -> Path:
        """Write a kubeconfig (JSON is YAML) that verifies the server and holds the client's key."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "policyops",
            "clusters": [
                {
                    "name": "policyops",
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _base64(self.ca.certificate),
                    },
                }
            ],
            "users": [
                {
                    "name": user,
                    "user": {
                        "client-certificate-data": _base64(client.certificate),
                        "client-key-data": _base64(client.key),
                    },
                }
            ],
            "contexts": [{"name": "policyops", "context": {"cluster": "policyops", "user": user}}],
        }
        temporary = path.with_name(f".{path.name}.new")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(document, indent=2))
        temporary.replace(path)
        return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
