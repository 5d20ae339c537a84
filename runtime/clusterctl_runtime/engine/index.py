"""The package index of this machine, as uv or pip are set up here: addresses, credentials, and uv itself to ask it with."""

from __future__ import annotations

import base64
import configparser
import contextlib
import hashlib
import json
import netrc
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from clusterctl.core.errors import ClusterctlError
from clusterctl_runtime.engine.installing import unpack_uv
from clusterctl_runtime.files.private import write_private

PUBLIC_INDEX = "https://pypi.org/simple"
CONNECT_SECONDS = 10.0
UV_VERSION = "0.13.9"
UV_FLOOR = (0, 8)  # the oldest that writes what `wheelhouse` reads
# What is run before anything else is checked by digests that this version of clusterctl brings with it.
_UV_WHEELS = {
    ("linux", "x86_64"): "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ("linux", "aarch64"): "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ("darwin", "arm64"): "66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63",
    ("darwin", "x86_64"): "c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5",
}
_UV_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
_PIP_KEYS = ("index-url", "extra-index-url", "find-links", "cert")
BROKEN = (OSError, HTTPException)


class IndexUnreachable(ClusterctlError):
    """The package index does not answer from this machine; another one may reach it."""


# ---------------------------------------------------------------- how it is set up


def uv_environment() -> dict[str, str]:
    """The environment to run uv in. uv reads its own variables and files; what only pip was told is translated for it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "CONDA_"))}
    env["UV_HTTP_CONNECT_TIMEOUT"] = env.get("UV_HTTP_CONNECT_TIMEOUT", f"{CONNECT_SECONDS:.0f}")
    env["UV_HTTP_RETRIES"] = env.get("UV_HTTP_RETRIES", "1")  # what is unreachable is asked again by whoever waits
    pip = pip_settings(os.environ)
    if pip.get("cert") and "SSL_CERT_FILE" not in env:
        env["SSL_CERT_FILE"] = pip["cert"]
    if any(env.get(name) for name in _UV_INDEX) or any(path.exists() for path in _uv_files()):
        return env
    if pip.get("index-url"):
        env["UV_DEFAULT_INDEX"] = pip["index-url"].split()[0]
    if extra := pip.get("extra-index-url", "").split():
        env["UV_INDEX"] = " ".join(extra)
        env["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's own: all of them are looked at
    places = pip.get("find-links", "").split()
    if places := [place for place in places if "://" in place or Path(place).exists()]:
        env["UV_FIND_LINKS"] = ",".join(places)
    return env


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What pip was told by its files and variables; the variables win."""
    found: dict[str, str] = {}
    if environment.get("PIP_CONFIG_FILE") != os.devnull:
        for path in _pip_files(environment):
            parser = configparser.RawConfigParser()
            with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
                parser.read(path, encoding="utf-8")
            for section in ("global", "download"):
                for key in _PIP_KEYS:
                    if parser.has_option(section, key):
                        found[key] = parser.get(section, key).strip()
    for key in _PIP_KEYS:
        if value := environment.get("PIP_" + key.upper().replace("-", "_")):
            found[key] = value
    return found


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    home = Path.home()
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    paths = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    if sys.platform == "darwin":
        paths.append(home / "Library" / "Application Support" / "pip" / "pip.conf")
    paths.append(Path(sys.prefix) / "pip.conf")
    if environment.get("PIP_CONFIG_FILE"):
        paths.append(Path(environment["PIP_CONFIG_FILE"]))
    return paths


def _uv_files() -> list[Path]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named = os.environ.get("UV_CONFIG_FILE")
    return [Path("/etc/uv/uv.toml"), config / "uv" / "uv.toml", *([Path(named)] if named else [])]


def index_url(env: Mapping[str, str]) -> str:
    """Of the index that uv asks first, as far as variables say."""
    return env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or PUBLIC_INDEX


# ---------------------------------------------------------------- asking it


def open_url(url: str, env: Mapping[str, str], *, accept: str = "", offset: int = 0) -> IO[bytes]:
    """A response to be read; proxies are those of the environment. Raises IndexUnreachable."""
    bare, credentials = _credentials(url, env)
    request = urllib.request.Request(bare)  # noqa: S310  the user's own index, or a file
    if credentials:
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    if accept:
        request.add_header("Accept", accept)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    context = ssl.create_default_context(cafile=env.get("SSL_CERT_FILE") or None) if bare.startswith("https") else None
    try:
        return urllib.request.urlopen(request, timeout=CONNECT_SECONDS, context=context)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise IndexUnreachable(f"the package index answers {error.code} {error.reason} to {bare}") from error
    except BROKEN as error:
        reason = getattr(error, "reason", error)
        raise IndexUnreachable(f"the package index does not answer at {bare}: {reason}") from error


def _credentials(url: str, env: Mapping[str, str]) -> tuple[str, str]:
    """(the URL without any, base64 of "user:password" or ""): its own, else those of an index on that host, else netrc's."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    texts = " ".join(env.get(name, "") for name in _UV_INDEX).replace(",", " ").split()
    named = [urlsplit(text.partition("=")[2] if "=" in text.partition("://")[0] else text) for text in texts]
    for known in [parts, *(other for other in named if other.hostname == parts.hostname)]:
        if known.username:
            pair = f"{unquote(known.username)}:{unquote(known.password or '')}"
            return bare, base64.b64encode(pair.encode()).decode()
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname or "")
        if found:
            return bare, base64.b64encode(f"{found[0]}:{found[2] or ''}".encode()).decode()
    return bare, ""


# ---------------------------------------------------------------- uv


def find_uv(store: Path, env: Mapping[str, str]) -> str:
    """A uv that can be run here: the one beside this Python or on the PATH, else one that is fetched into `store`. Raises
    IndexUnreachable."""
    beside = Path(sys.executable).with_name("uv")
    for candidate in (str(beside), shutil.which("uv") or ""):
        if candidate and _is_new_enough(candidate):
            return candidate
    kind = (sys.platform, platform.machine())
    if kind not in _UV_WHEELS:
        raise ClusterctlError(
            f"uv is needed to install Ray, and there is none for {kind[0]} on {kind[1]}: install it here"
        )
    digest = _UV_WHEELS[kind]
    place = store / f"uv-{digest[:16]}"
    if not (place / "uv").exists():
        (store / "wheels").mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = store / "wheels" / digest
        if not kept.exists():
            _fetch_uv(kept, digest, env)
        unpack_uv(kept, place)
    return str(place / "uv")


def _is_new_enough(path: str) -> bool:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    found = re.match(r"uv (\d+)\.(\d+)", said)
    return bool(found) and (int(found[1]), int(found[2])) >= UV_FLOOR  # type: ignore[index]


def _fetch_uv(target: Path, digest: str, env: Mapping[str, str]) -> None:
    base = index_url(env).rstrip("/") + "/uv/"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    with open_url(base, env, accept=accept) as page:
        text = page.read().decode(errors="replace")
    for name, link in _links(text):
        if name.startswith(f"uv-{UV_VERSION}-") and digest in link:
            break
    else:
        raise IndexUnreachable(f"{base} has no uv {UV_VERSION} for this machine: install uv here (pip install uv)")
    with open_url(urljoin(base, link.partition("#")[0]), env) as body:
        data = body.read()
    if hashlib.sha256(data).hexdigest() != digest:
        raise IndexUnreachable(f"uv {UV_VERSION} arrived damaged from {base}: it was thrown away")
    write_private(target, data)


def _links(text: str) -> Iterator[tuple[str, str]]:
    """(file name, its URL with #sha256=...) of an index page, in JSON or in HTML."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        files: list[dict[str, Any]] = json.loads(text)["files"]
        yield from ((file["filename"], f"{file['url']}#sha256={file['hashes'].get('sha256', '')}") for file in files)
        return
    for link in re.findall(r'href="([^"]+\.whl[^"]*)"', text):
        yield unquote(link.partition("#")[0].rpartition("/")[2]), link
