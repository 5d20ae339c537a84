"""A node of one's own to work on, as the job that holds it: started, found again, and reached.

What this machine keeps of it (a secret, a key, where it listens) is below the cluster's directory, for its owner only. The job's
own record has the hash of the secret and the public half of the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from clusterctl_runtime.files.private import make_private_dir, write_private

from clusterctl.client.head.api import Api
from clusterctl.client.nodes.forwarding import Route
from clusterctl.client.registry import Cluster, machine_of, read_json
from clusterctl.client.submit import submission
from clusterctl.client.submit.logs import FINAL, End, LogReader
from clusterctl.client.submit.submission import Wanted
from clusterctl.core.errors import ClusterctlError, NotFound
from clusterctl.provision import isolated
from clusterctl.provision.carried import Way
from clusterctl.provision.ssh.command import argv_of
from clusterctl.provision.ssh.openssh import as_word

MARK = "clusterctl-dev "
_PYTHON = 'exec "$(command -v python || command -v python3)" -u -c "$0" "$@"'  # the engine's is first on a job's PATH


@dataclass(frozen=True)
class Facts:
    """What its program said of itself. `no_ssh`: why there is none, "" where there is; `jupyter` likewise, None where none was
    asked for."""

    port: int
    user: str
    host_key: str
    no_ssh: str
    jupyter: str | None


class DevPlace:
    """One job."""

    def __init__(self, cluster: Cluster, job: str) -> None:
        self.cluster, self.job = cluster, job
        self.directory = cluster.directory / "dev" / job
        self._route: Route | None = None

    # ------------------------------------------------------------ its life

    @classmethod
    def begin(cls, cluster: Cluster, api: Api, wanted: Wanted, *, idle: float, jupyter: bool) -> DevPlace:
        """Submits the job of `wanted`, whose program is ours to say. Raises ClusterctlError."""
        check_reachable(cluster)
        place = cls(cluster, "dev-" + base64.b32encode(secrets.token_bytes(5)).decode().lower())
        secret = secrets.token_urlsafe(32)
        make_private_dir(place.directory.parent)
        make_private_dir(place.directory)
        write_private(place.directory / "secret", secret)
        settings = {
            "listen": "0.0.0.0" if _is_cloud(cluster) else "127.0.0.1",  # noqa: S104  reached from the head's machine
            "secret_sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "key": place._mint(),
            "idle": idle,
            "jupyter": jupyter,
        }
        text = resources.files("clusterctl.client.dev").joinpath("program.py").read_text()
        argv = ["sh", "-c", _PYTHON, text, json.dumps(settings)]
        try:
            submission.submit(api, replace(wanted, argv=argv, submission_id=place.job, max_retries=0))
        except ClusterctlError:
            shutil.rmtree(place.directory, ignore_errors=True)
            raise
        return place

    def _mint(self) -> str:
        """A key for it alone; the public half."""
        path = self.directory / "key"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.job, "-f", str(path)]
        try:
            subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ClusterctlError(f"ssh-keygen made no key ({error}): install OpenSSH's client here") from error
        return path.with_suffix(".pub").read_text().strip()

    def ready(self, api: Api) -> Facts:
        """Returns once its program says that it listens, which may take as long as buying a node. Raises ClusterctlError where
        the job ended instead."""
        kept = read_json(self.directory / "facts.json")
        return Facts(**kept) if kept else self._told(api)

    def _told(self, api: Api) -> Facts:
        said = ""
        with closing(LogReader(api.clone(), self.job).pieces(follow_on=True)) as pieces:
            for piece in pieces:
                if isinstance(piece, End):
                    reason = str(api.clone().get_at_last(f"/api/v1/jobs/{self.job}").get("reason") or piece.state)
                    raise ClusterctlError(f"job {self.job} has ended: {said.strip()[-2000:] or reason}")
                said += piece.data.decode(errors="replace")
                for line in said.splitlines(keepends=True):
                    if line.startswith(MARK) and line.endswith("\n"):
                        facts = json.loads(line[len(MARK) :])
                        write_private(self.directory / "facts.json", json.dumps(facts))
                        write_private(self.directory / "known_hosts", f"{self.job} {facts['host_key']}\n")
                        return Facts(**facts)
        raise ClusterctlError(f"the log of job {self.job} ended before its program had begun")

    def leave(self) -> int:
        """Lets the node go, unless others are connected; how many those are."""
        with closing(self.dial(Facts(**read_json(self.directory / "facts.json")), "leave")) as way:
            others = int(_all(way) or 0)
        if not others:
            shutil.rmtree(self.directory, ignore_errors=True)
        return others

    # ------------------------------------------------------------ the ways there

    def route(self, tell: Callable[[str], None]) -> Route:
        """The way to its node, which is kept. Raises ClusterctlError."""
        self._route = self._route or Route(self.cluster, self.job, tell)
        return self._route

    def dial(self, facts: Facts, service: str) -> Way:
        """A connection to one of the services of its program. Raises ClusterctlError."""
        troubles: list[str] = []
        way = self.route(troubles.append).dial(facts.port)
        if way is None:
            raise ClusterctlError(f"job {self.job} is not reached: {'; '.join(troubles)}")
        way.sendall(f"{(self.directory / 'secret').read_text()} {service}\n".encode())
        return way

    def token(self, facts: Facts) -> str:
        """Jupyter's."""
        with closing(self.dial(facts, "token")) as way:
            return _all(way)

    def ssh_options(self, facts: Facts) -> dict[str, str]:
        """As they stand in a file of OpenSSH's client."""
        command = [*isolated.module("clusterctl"), "-c", self.cluster.name, "dev", "--pipe", self.job]
        home = ["env", f"CLUSTERCTL_HOME={self.cluster.directory.parent.parent}"]
        return {
            "HostName": self.job,
            "HostKeyAlias": self.job,
            "User": facts.user,
            "IdentityFile": as_word(str(self.directory / "key")),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": as_word(str(self.directory / "known_hosts")),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "LogLevel": "ERROR",
            "ProxyCommand": " ".join(map(_quoted, [*home, *command])),
        }


def check_reachable(cluster: Cluster) -> None:
    """Raises ClusterctlError where no node of this cluster can be reached from here."""
    if machine_of({"provider": cluster.provider}) == "instance" and not cluster.head_is_remote:
        raise ClusterctlError(
            f"nodes of {cluster.provider} are not reached from here where the head runs on this machine (`head_address`): "
            "only a head on an instance has a way to them"
        )


def find(cluster: Cluster, name: str) -> DevPlace:
    """That of the job, or on the node, of this name. Raises NotFound."""
    known = sorted(path.name for path in (cluster.directory / "dev").glob("dev-*"))
    with Api.of(cluster) as api:
        for job in [name] if name in known else known:
            record = _record(api, job)
            if record.get("state") in (None, *FINAL):
                shutil.rmtree(cluster.directory / "dev" / job, ignore_errors=True)
            elif job == name or (record["attempts"] and name in record["attempts"][-1]["nodes"]):
                return DevPlace(cluster, job)
    raise NotFound(
        f"{name} is no job and no node of `clusterctl dev` from this machine, or has been let go: `clusterctl dev` alone "
        "buys one, and `clusterctl ssh NODE` opens a shell on any other node"
    )


def _record(api: Api, job: str) -> dict[str, Any]:
    try:
        return api.get(f"/api/v1/jobs/{job}")
    except NotFound:
        return {}


def _is_cloud(cluster: Cluster) -> bool:
    return cluster.head_is_remote and not cluster.on_hosts


def _all(way: Way) -> str:
    said = b""
    while piece := way.recv(4096):
        said += piece
    return said.decode()


def _quoted(word: str) -> str:
    return shlex.quote(word).replace("%", "%%")  # which OpenSSH would replace


def host_entry(place: DevPlace, facts: Facts) -> str:
    """For ssh_config."""
    lines = [f"  {name} {value}" for name, value in place.ssh_options(facts).items()]
    return "\n".join([f"Host {place.cluster.name}-{place.job}", *lines])


def ssh_argv(place: DevPlace, facts: Facts) -> list[str]:
    """A shell there, by nothing but these options."""
    return argv_of(place.ssh_options(facts), place.job)
