"""Logins for registries, as the docker command finds them; nothing that is wrong with them keeps a public image from its pull."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.docker import login as docker_login
from clusterctl_providers.docker.api import usable
from clusterctl_providers.docker.client import open_engine
from clusterctl_providers.docker.login import login_for
from clusterctl_providers.docker.provider import DockerProvider

from clusterctl.core.errors import BadRequest, NotYet
from tests.docker.world import DockerWorld
from tests.support.cluster import wait_until
from tests.support.docker_engine import DockerEngine

HUB = "https://index.docker.io/v1/"
ANSWER = '{"ServerURL": "x", "Username": "me", "Secret": "s3cret"}'
Write = Callable[..., None]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes Docker's config.json, and credential helpers by name: the shell script of each gets the registry on its stdin."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    def write(document: Any, **helpers: str) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "config.json").write_text(text)
        for name, script in helpers.items():
            program = tmp_path / "bin" / f"docker-credential-{name}"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    return write


def encoded(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_each_registry_has_the_helper_that_is_named_for_it_and_the_others_the_store(config: Write) -> None:
    ask = 'read host; echo "{\\"Username\\": \\"$0 $1 of $host\\", \\"Secret\\": \\"s\\"}" | sed "s,/[^ ]*/docker-credential-,,"'
    config({"credsStore": "store", "credHelpers": {"gcr.lab": "gcloud"}}, store=ask, gcloud=ask)
    assert login_for("gcr.lab/team/image").words["username"] == "gcloud get of gcr.lab"
    assert login_for("other.lab:5000/image").words["username"] == "store get of other.lab:5000"
    assert login_for("ubuntu").words == {"username": f"store get of {HUB}", "password": "s", "serveraddress": HUB}
    config({"credsStore": "token"}, token='echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"t\\"}"')
    assert login_for("gcr.lab/image").words == {"identitytoken": "t", "serveraddress": "gcr.lab"}


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        (None, "the credential helper docker-credential-odd is not installed"),
        ("echo no keyring; exit 1", "the credential helper docker-credential-odd failed (no keyring)"),
        ("echo 'credentials not found in native keychain'; exit 1", ""),
        ("echo '<html>'", "answered with something else than credentials"),
        ("echo '[1]'", "answered with something else than credentials"),
        ("exec sleep 60", "did not answer within 0.3 s"),
        ('echo \'{"Username": "", "Secret": ""}\'', ""),
    ],
)
def test_a_helper_that_has_nothing_to_give_is_gone_on_without_and_told_where_it_should_have(
    config: Write, monkeypatch: pytest.MonkeyPatch, script: str | None, trouble: str
) -> None:
    monkeypatch.setattr(docker_login, "HELPER_SECONDS", 0.3)
    config({"credsStore": "odd"}, **({"odd": script} if script else {}))
    login = login_for("registry.lab/image")
    assert login.words == {} and (trouble in login.trouble if trouble else not login.trouble)
    config({"credsStore": "odd", "auths": {"https://registry.lab/v2/": encoded("me:s:3")}})
    login = login_for("registry.lab/image")
    assert login.words == {"username": "me", "password": "s:3", "serveraddress": "registry.lab"}, (
        "written in the file itself"
    )


@pytest.mark.parametrize(
    ("auths", "words", "trouble"),
    [
        ({"registry.lab": {"identitytoken": "t"}}, {"identitytoken": "t", "serveraddress": "registry.lab"}, ""),
        ({"registry.lab": {}}, {}, ""),
        ({"registry.lab": "junk"}, {}, ""),
        ({"registry.lab": {"auth": "***"}}, {}, "docker login registry.lab"),
        ({"registry.lab": {"auth": "/w=="}}, {}, "docker login registry.lab"),
        ({"registry.lab:5000": encoded("me:s")}, {}, ""),
        ("junk", {}, ""),
    ],
)
def test_what_is_written_in_the_file_is_taken_where_it_is_well_formed(
    config: Write, auths: Any, words: dict[str, str], trouble: str
) -> None:
    config({"auths": auths})
    login = login_for("registry.lab/image")
    assert login.words == words and trouble in login.trouble


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "7", '{"auths": {"a": 7}}', '{"auths": {"a": {"auth": "***"}}}', '{"auths": [1]}', '{"proxies": [1]}',
        '{"proxies": {"default": "x"}}', '{"credHelpers": "x", "credsStore": 7}', '{"HttpHeaders": 7, "currentContext": 7}',
    ],
)  # fmt: skip
def test_no_config_however_broken_keeps_anyone_from_the_engine(
    docker_engine: DockerEngine, config: Write, text: str
) -> None:
    config(text)
    engine = open_engine(docker_engine.host, None)
    assert engine.info["ID"] and login_for("ubuntu").words == {}
    engine.api.close()


def test_well_formed_proxies_and_headers_are_kept() -> None:
    proxies = {"default": {"httpProxy": "http://proxy:3128", "noProxy": "*.lab"}}
    assert usable({"proxies": proxies, "HttpHeaders": {"X-A": "b"}}) == {
        "proxies": proxies,
        "HttpHeaders": {"X-A": "b"},
    }


@pytest.fixture
def world(docker_engine: DockerEngine) -> Iterator[DockerWorld]:
    place = DockerWorld()
    yield place
    place.close()


def test_an_image_is_pulled_though_the_helper_is_missing_and_a_refusal_names_both(
    world: DockerWorld, config: Write
) -> None:
    config({"credsStore": "desktop"})
    provider = world.open({**world.settings(), "image": "127.0.0.1:9/none:1"})
    assert isinstance(provider, DockerProvider)

    def answer() -> Exception | None:
        (result,) = provider.create([world.request(provider, "cpu-1")])
        return result if isinstance(result, BadRequest) and not isinstance(result, NotYet) else None

    told = str(wait_until(answer, what="the registry's answer"))
    assert "refused" in told, "the registry was asked"
    assert "tried without a login, since the credential helper docker-credential-desktop is not installed" in told
