"""The public half of the key by which machines are logged in to.

AWS           imported as a key pair of the region; ed25519 and RSA
Google Cloud  `ssh-keys` of the instance's metadata, as USER:KEY; or OS Login, where the organisation forces it
Azure         osProfile.linuxConfiguration.ssh.publicKeys; RSA and ed25519
"""

from __future__ import annotations

from pathlib import Path

from clusterctl.core.errors import BadRequest

TAKEN = ("ssh-ed25519 ", "ssh-rsa ")


def public_key(path: Path, taker: str) -> bytes:
    """The public half of a private key file: its .pub file, else taken from the key itself. `path` may be the .pub file, when
    an agent has the other half. Raises BadRequest for a key that `taker`, which is who gets it, does not take."""
    beside = _public_file(path)
    try:
        if beside.exists():
            found = beside.read_bytes().strip()
        else:
            from cryptography.hazmat.primitives import serialization

            key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
            found = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (OSError, ValueError, TypeError) as error:
        raise BadRequest(
            f"the public half of {path} is not to be had ({error}); write it to {beside}: ssh-keygen -y -f {path} > {beside}"
        ) from error
    if not found.startswith(tuple(kind.encode() for kind in TAKEN)):
        kind = found.partition(b" ")[0].decode(errors="replace")[:40]
        raise BadRequest(
            f"{taker} takes ed25519 and RSA keys, {path} is {kind}: make one with `ssh-keygen -t ed25519`, or leave `auth.key` "
            "out"
        )
    return found


def is_here(path: Path) -> bool:
    """Whether this machine has the key, or its public half: a head has neither."""
    return path.exists() or _public_file(path).exists()


def is_same(known: str, public: bytes) -> bool:
    """Whether two public keys are one, whatever their comments. `known` is "" where a cloud does not show it."""
    return not known or known.split()[:2] == public.decode(errors="replace").split()[:2]


def _public_file(path: Path) -> Path:
    return path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
