"""The cluster's own certificate authority and the head's certificate, minted once and kept in the head's directory.

Agents pin the CA from their bootstrap document, so no public authority and no host name is involved.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from clusterctl_runtime.files.private import write_private
from clusterctl_runtime.wire import server_name
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=3650)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    # An hour of margin: nodes whose clocks are a little behind must still accept the certificate.
    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
    )


def _mint(directory: Path, uid: str) -> None:
    authority = f"clusterctl {uid}"
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = (
        _builder(authority, authority, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(server_name(uid)[:64], authority, key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(uid))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write_private(directory / "ca.key", _pem_key(ca_key))
    write_private(directory / "head.key", _pem_key(key))
    write_private(directory / "head.pem", certificate.public_bytes(serialization.Encoding.PEM).decode())
    # Last, so that its presence means that all four are there.
    write_private(directory / "ca.pem", ca.public_bytes(serialization.Encoding.PEM).decode())


def ensure_certificates(directory: Path, uid: str) -> str:
    """Mints what is missing; returns the CA certificate (PEM) that agents pin."""
    if not (directory / "ca.pem").exists():
        _mint(directory, uid)
    return (directory / "ca.pem").read_text()
