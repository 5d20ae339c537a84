"""The head's side of TLS. The authority and the certificate are minted by whoever starts the cluster (`provision.certs`)."""

from __future__ import annotations

import ssl
from pathlib import Path

from clusterctl.provision.certs import ensure_certificates as ensure_certificates


def server_context(directory: Path) -> ssl.SSLContext:
    """TLS 1.2 and later, by `head.pem` and `head.key` of `directory`; raises OSError where these cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(directory / "head.pem", directory / "head.key")
    return context
