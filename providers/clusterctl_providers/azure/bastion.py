"""A way to a machine through an Azure Bastion: what is read from stdin arrives at a port of the machine, and what that says is
written to stdout.

    python -m clusterctl_providers.azure.bastion VM 22 --network=... --bastion=...

The tunnel is that of the `az` command (its extension `bastion`), which listens on a port of this machine's own; it is started for
one line, and ends with it. Which protocol it speaks Microsoft does not tell, and changes as it likes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, UnknownOutcome
from clusterctl_providers.azure.calls import Calls, last_part
from clusterctl_providers.azure.errors import is_missing

SUBNET = "azurebastionsubnet"
SKUS = ("Standard", "Premium")  # that have tunnels
SETUP = "az extension add --name bastion"
GET_AZ = "https://learn.microsoft.com/cli/azure/install-azure-cli"
READY_SECONDS = 60.0  # for `az` to listen: it starts in some seconds
END_SECONDS = 5.0  # for `az` to end once it is told to
PAUSE = 0.1
LARGEST = 65536  # bytes that are passed on at once
STDIN, STDOUT = 0, 1
_FROM_US = {
    "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",  # nothing is installed, and nothing asked, behind anybody's back
    "AZURE_CORE_ONLY_SHOW_ERRORS": "false",
    "AZURE_CORE_COLLECT_TELEMETRY": "false",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Host:
    """A Bastion host, by its id."""

    id: str

    @property
    def group(self) -> str:
        return self.id.split("/")[4]

    @property
    def subscription(self) -> str:
        return self.id.split("/")[2]


# ---------------------------------------------------------------- which one


def find_host(calls: Calls, settings: Mapping[str, Any]) -> Host:
    """That of the settings, else the one that stands in the nodes' virtual network, or in one that is peered with it. Raises
    BadRequest where there is none, or it is none for tunnels."""
    wanted = str(settings.get("bastion") or "")
    row = _named(calls, settings, wanted) if wanted else _in_network(calls, settings)
    name, properties = last_part(str(row["id"])), row.get("properties") or {}
    sku = str((row.get("sku") or {}).get("name") or "Basic")
    if sku not in SKUS:
        raise BadRequest(
            f"the Bastion host {name} has the SKU {sku}, and tunnels take Standard: `az network bastion update --name {name} "
            f"--resource-group {Host(str(row['id'])).group} --sku Standard --enable-tunneling true`"
        )
    if not properties.get("enableTunneling"):
        raise BadRequest(
            f"the Bastion host {name} has no tunnels (native client support is off): `az network bastion update --name {name} "
            f"--resource-group {Host(str(row['id'])).group} --enable-tunneling true`"
        )
    return Host(str(row["id"]))


def _named(calls: Calls, settings: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    group = str(settings.get("resource_group") or "")
    path = wanted if wanted.startswith("/") else calls.path("Microsoft.Network", "bastionHosts", wanted, group=group)
    try:
        return calls.get(path, f"looking for the Bastion host {last_part(wanted)}")
    except ProviderError as error:
        if is_missing(error):
            raise BadRequest(
                f"there is no Bastion host {path}: mend `bastion` of `provider: {{azure: ...}}`; `az network bastion list` shows "
                "them"
            ) from error.__cause__
        raise


def _in_network(calls: Calls, settings: Mapping[str, Any]) -> dict[str, Any]:
    near = _networks(calls, settings)
    path = calls.path("Microsoft.Network", "bastionHosts")
    found = [
        (near.index(network), row)
        for row in calls.list(path, "looking for a Bastion host")
        if (network := _network_of(row)) in near
    ]
    if not found:
        raise BadRequest(
            f"there is no Bastion host in the virtual network {last_part(near[0])}, nor in one that is peered with it: name it "
            "under `bastion` of `provider: {azure: ...}`, make one (`az network bastion create --sku Standard "
            "--enable-tunneling true ...`), or choose another `reach`"
        )
    return min(found, key=lambda each: (each[0], str(each[1]["id"])))[1]


def _networks(calls: Calls, settings: Mapping[str, Any]) -> list[str]:
    """Ids, in small letters: the nodes' own, then those that are peered with it."""
    from clusterctl_providers.azure.network.subnets import Subnets

    network, subnet = (str(settings.get(key) or "") for key in ("network", "subnet"))
    group = calls.path(group=str(settings.get("resource_group") or ""))
    found = Subnets(calls, group, network, subnet).read()
    peerings = (found.get("properties") or {}).get("virtualNetworkPeerings") or ()
    remote = [((each.get("properties") or {}).get("remoteVirtualNetwork") or {}).get("id") for each in peerings]
    return [str(found["id"]).lower(), *(str(link).lower() for link in remote if link)]


def _network_of(row: Mapping[str, Any]) -> str:
    for each in (row.get("properties") or {}).get("ipConfigurations") or ():
        subnet = str(((each.get("properties") or {}).get("subnet") or {}).get("id") or "").lower()
        if subnet.endswith(f"/subnets/{SUBNET}"):
            return subnet.rpartition("/subnets/")[0]
    return ""


def find_machine(calls: Calls, settings: Mapping[str, Any], name: str) -> str:
    """The id of the VM of that name, in whichever resource group."""
    if group := str(settings.get("resource_group") or ""):
        return calls.path("Microsoft.Compute", "virtualMachines", name, group=group)
    query = f"name eq '{name}' and resourceType eq 'Microsoft.Compute/virtualMachines'"
    rows = calls.list(f"{calls.path()}/resources", f"looking for the machine {name}", _filter=query)
    if not rows:
        raise BadRequest(f"Azure shows no machine {name} in the subscription {calls.subscription}")
    return str(rows[0]["id"])


# ---------------------------------------------------------------- beforehand


def check(calls: Calls, settings: Mapping[str, Any]) -> Host:
    """What the way takes, looked at before anything is made: the host, `az`, its extension. Raises ProviderError."""
    host = find_host(calls, settings)
    if shutil.which("az") is None:
        raise BadRequest(f"`reach: bastion` takes the `az` command, which is not on PATH here: {GET_AZ}")
    done = _az("extension", "show", "--name", "bastion", "--output", "none")
    if done.returncode:
        raise BadRequest(
            f"`reach: bastion` takes the extension `bastion` of the `az` command, which is not here: `{SETUP}`"
        )
    done = _az("account", "show", "--subscription", host.subscription, "--output", "none")
    if done.returncode:
        raise AuthFailed(
            f"`az`, which makes the tunnel of `reach: bastion`, is not logged in to the subscription {host.subscription} "
            f"({_one_line(done.stderr)}): `az login`"
        )
    return host


def _az(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["az", *argv],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_FROM_US},
        check=False,
    )


# ---------------------------------------------------------------- the tunnel


class Tunnel:
    """`az network bastion tunnel`, from `open` to `close`."""

    def __init__(
        self,
        host: Host,
        machine: str,
        port: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._host, self._machine, self._port = host, machine, port
        self._clock, self._pause = clock, pause
        self._what = f"going to port {port} of {last_part(machine)} through the Bastion host {last_part(host.id)}"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  it is closed with the tunnel
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> socket.socket:
        """A line to the machine. Raises ProviderError with what `az` said."""
        local = _free_port()
        argv = [
            "az", "network", "bastion", "tunnel", "--name", last_part(self._host.id), "--resource-group", self._host.group,
            "--subscription", self._host.subscription, "--target-resource-id", self._machine,
            "--resource-port", str(self._port), "--port", str(local),
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, env={**os.environ, **_FROM_US},
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BadRequest(f"{self._what}: `az` cannot be run ({error}): {GET_AZ}") from error
        until = self._clock() + READY_SECONDS
        while self._clock() < until:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", local), timeout=5.0)
            if self._process.poll() is not None:
                raise self.trouble()
            self._pause(PAUSE)
        raise UnknownOutcome(f"{self._what}: `az` does not listen after {READY_SECONDS:g} s ({self._told()})")

    def trouble(self) -> ProviderError:
        """Why there is no line (any more), by what `az` said."""
        said = self._told()
        small = said.lower()
        if (
            "az extension add" in small
            or "requires the extension" in small
            or "is misspelled or not recognized" in small
        ):
            return BadRequest(f"{self._what}: the `az` command lacks its extension `bastion`: `{SETUP}` ({said})")
        if "az login" in small:
            return AuthFailed(f"{self._what}: `az` is not logged in ({said}); `az login`")
        if "authorizationfailed" in small or "does not have authorization" in small:
            return AuthFailed(
                f"{self._what}: whoever `az` is logged in as may not ({said}); it takes Reader on the Bastion host, the machine "
                "and its network card"
            )
        if "sku must be standard" in small:
            return BadRequest(f"{self._what}: the Bastion host has no tunnels ({said})")
        return UnknownOutcome(f"{self._what}: `az` has ended ({said})")

    def _told(self) -> str:
        self._said.seek(0)
        return _one_line(self._said.read().decode("utf-8", "replace")) or "it said nothing"

    def said_nothing_wrong(self) -> bool:
        self._said.seek(0)
        return b"rror" not in self._said.read()

    def close(self) -> None:
        """`az` is a shell that runs a program: both are ended."""
        process, self._process = self._process, None
        if process is not None:
            for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
                    break
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self._said.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _one_line(text: str) -> str:
    return " ".join(text.split())[-400:]


# ---------------------------------------------------------------- as a program


def pump(line: socket.socket, read: int = STDIN, write: int = STDOUT) -> int:
    """Until either side has ended. Returns how many bytes came back."""
    got = 0
    with selectors.DefaultSelector() as both:
        both.register(read, selectors.EVENT_READ)
        both.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in both.select():
                if key.fileobj is line:
                    data = line.recv(LARGEST)
                    got += len(data)
                    send: Callable[[bytes], None] = lambda some: _write_all(write, some)  # noqa: E731
                else:
                    data, send = os.read(read, LARGEST), line.sendall
                if not data:
                    return got
                send(data)


def _write_all(end: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(end, view) :]


def carry(calls: Calls, settings: Mapping[str, Any], machine: str, port: int) -> None:
    """A line from stdin and stdout to the machine. Raises ProviderError where it never came about."""
    with Tunnel(find_host(calls, settings), find_machine(calls, settings, machine), port) as tunnel:
        line = tunnel.open()
        with line:
            line.settimeout(None)
            got = 0
            with contextlib.suppress(ConnectionError):
                got = pump(line)
        if not got and not tunnel.said_nothing_wrong():
            raise tunnel.trouble()


@contextlib.contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Whoever started this program ends it by SIGTERM: `az` must not stay."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


OPTIONS = ("subscription", "tenant", "resource_group", "network", "subnet", "bastion", "region", "endpoint_url")


def main(argv: Sequence[str] | None = None) -> None:
    """Ends with 1 and a sentence on stderr where there is no way."""
    parser = argparse.ArgumentParser(
        prog="python -m clusterctl_providers.azure.bastion", description="A line to a port of a machine."
    )
    parser.add_argument("machine", help="the VM's name")
    parser.add_argument("port", type=int)
    for name in OPTIONS:
        parser.add_argument(f"--{name}", default="")
    given = vars(parser.parse_args(argv))
    calls = Calls(given)
    try:
        with _ending_by_signals():
            carry(calls, given, given["machine"], given["port"])
    except ProviderError as error:
        sys.exit(str(error))
    finally:
        calls.close()


if __name__ == "__main__":
    main()
