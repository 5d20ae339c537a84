"""How an image's registry knows the user: by ~/.docker/config.json and the credential helpers that it names.

As with the docker command, a helper that is missing or fails is no reason not to pull: most images are public. What went
wrong is told when the registry refuses.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from docker.auth import INDEX_NAME, INDEX_URL, TOKEN_USERNAME, convert_to_hostname, resolve_repository_name
from docker.errors import DockerException

HELPER_SECONDS = 30.0
_NONE = "credentials not found"  # what every helper says where it has none


@dataclass(frozen=True)
class Login:
    """`words`: for the engine, {} for nobody in particular. `trouble`: why there are none, where there should be some."""

    words: Mapping[str, str] = field(default_factory=dict[str, str])
    trouble: str = ""


def login_for(repository: str) -> Login:
    """For "registry.lab/team/image" or "ubuntu"."""
    try:
        registry = resolve_repository_name(repository)[0]
    except (DockerException, IndexError):
        return Login()  # the engine says what is wrong with the name
    registry = INDEX_URL if registry == INDEX_NAME else registry
    config, trouble = _config()
    helper = _mapping(config.get("credHelpers")).get(registry) or config.get("credsStore") or ""
    asked = _ask(str(helper), registry) if helper else Login()
    if asked.words:
        return asked
    written = _written(_mapping(config.get("auths")), registry)
    return written if written.words else Login({}, asked.trouble or written.trouble or trouble)


def _config() -> tuple[Mapping[str, Any], str]:
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        read: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
    return (read, "") if isinstance(read, dict) else ({}, f"{path} holds no mapping")


def _ask(helper: str, registry: str) -> Login:
    program = f"docker-credential-{helper}"
    found = shutil.which(program) if "/" not in helper else None
    if found is None:
        return Login({}, f"the credential helper {program} is not installed")
    try:
        done = subprocess.run(
            [found, "get"], input=registry, capture_output=True, text=True, errors="replace", timeout=HELPER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Login({}, f"the credential helper {program} did not answer within {HELPER_SECONDS:g} s")
    except OSError as error:
        return Login({}, f"the credential helper {program} cannot be run ({error.strerror or error})")
    said = " ".join((done.stdout + " " + done.stderr).split())
    if done.returncode != 0:
        return Login() if _NONE in said.lower() else Login({}, f"the credential helper {program} failed ({said[:200]})")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        return Login({}, f"the credential helper {program} answered with something else than credentials")
    if not user and not secret:
        return Login()
    if user == TOKEN_USERNAME:
        return Login({"identitytoken": secret, "serveraddress": registry})
    return Login({"username": user, "password": secret, "serveraddress": registry})


def _written(auths: Mapping[str, Any], registry: str) -> Login:
    """What `docker login` has written into the file itself, under any spelling of the registry's name."""
    host = convert_to_hostname(registry)
    for name in sorted(auths, key=lambda name: name != registry):
        if name != registry and convert_to_hostname(name) != host:
            continue
        entry = _mapping(auths[name])
        words = {key: str(entry[key]) for key in ("identitytoken", "registrytoken") if entry.get(key)}
        if words:
            return Login({**words, "serveraddress": registry})
        try:
            user, _, password = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode().partition(":")
        except ValueError:
            return Login(
                {}, f"the login for {name} in Docker's config.json is damaged: `docker login {host}` writes it anew"
            )
        if user:
            return Login({"username": user, "password": password.strip("\0"), "serveraddress": registry})
    return Login()


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
