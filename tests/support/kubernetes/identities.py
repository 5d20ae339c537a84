"""Who may speak to the API server: an authority of its own, certificates for users and servers, kubeconfig files."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import trustme
import yaml
from trustme import KeyType


class Identities:
    """Files in `directory`: ca.pem, NAME.pem and NAME.key."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        self._authority = trustme.CA(organization_name="tests", key_type=KeyType.ECDSA)
        self._authority.cert_pem.write_to_path(str(self.authority))

    @property
    def authority(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, name: str, *hosts: str, user: str = "", group: str = "") -> tuple[Path, Path]:
        """(certificate, key) of a server with these names and addresses, or of a user of Kubernetes."""
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        names = hosts or ("user.invalid",)  # Go takes none without one
        made = self._authority.issue_cert(
            *names, common_name=user or name, organization_name=group or None, key_type=KeyType.ECDSA
        )
        certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(key))
        return certificate, key

    def trust(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Of a client of the API server; with its own certificate and key when it has them."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context

    def kubeconfig(
        self, name: str, server: str, user: dict[str, Any] | tuple[Path, Path], namespace: str = "default"
    ) -> Path:
        """NAME.yaml with one context, `test`, that needs no other file. `user`: as kubeconfig has it, or certificate and key."""
        if isinstance(user, tuple):
            user = {"client-certificate-data": _text(user[0]), "client-key-data": _text(user[1])}
        cluster = {"server": server, "certificate-authority-data": _text(self.authority)}
        path = self.directory / f"{name}.yaml"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path


def _text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
