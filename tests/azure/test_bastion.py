"""The way to a head through an Azure Bastion: a ProxyCommand of our own, which starts `az` for one line and ends it."""

from __future__ import annotations

import contextlib
import secrets
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusterctl_providers.azure import bastion
from clusterctl_providers.azure.bastion import check, find_host, find_machine
from clusterctl_providers.azure.images.lookup import Images
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.azure.review import Review
from clusterctl_providers.base import NetworkPlace, Whereabouts

from clusterctl.client.up.way_in import WayIn
from clusterctl.core.errors import AuthFailed, BadRequest
from clusterctl.provision.ssh.proxy import Proxy
from clusterctl.spec.providers.registry import KINDS
from tests.azure.parts import Parts
from tests.cloud.azure import az
from tests.cloud.azure.cloud import AzureCloud
from tests.support.cluster import wait_until

VM = "clusterctl-demo-5f3a5f3a-head-1-1"
Change = Callable[..., None]


class Echo(socketserver.ThreadingTCPServer):
    """A machine's port: it says what it hears."""

    allow_reuse_address, daemon_threads = True, True

    class RequestHandlerClass(socketserver.BaseRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(65536):
                    self.request.sendall(data)


@pytest.fixture
def port() -> Iterator[int]:
    with Echo(("127.0.0.1", 0), Echo.RequestHandlerClass) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(30)


def make_bastion(parts: Parts, network: str, name: str = "hub", sku: str = "Standard", *, tunnels: bool = True) -> str:
    address = parts.make(f"Microsoft.Network/publicIPAddresses/{name}", {"sku": {"name": "Standard"}, "properties": {
        "publicIPAllocationMethod": "Static"}})  # fmt: skip
    entry = {"subnet": {"id": f"{network}/subnets/AzureBastionSubnet"}, "publicIPAddress": {"id": address}}
    properties: dict[str, Any] = {"ipConfigurations": [{"name": "main", "properties": entry}]}
    if tunnels:
        properties["enableTunneling"] = True
    return parts.make(f"Microsoft.Network/bastionHosts/{name}", {"sku": {"name": sku}, "properties": properties})


SUBNETS = (
    {"name": "nodes", "addressPrefix": "10.50.0.0/20"},
    {"name": "AzureBastionSubnet", "addressPrefix": "10.50.255.0/26"},
)


@pytest.fixture
def parts(cloud: AzureCloud) -> Parts:
    """A network of the user's with a Bastion host in it."""
    parts = Parts(cloud, resource_group="corp", network="corp", reach="bastion")
    make_bastion(parts, parts.make_network("corp", *SUBNETS))
    return parts


def vm(parts: Parts, name: str = VM) -> str:
    return parts.calls.path("Microsoft.Compute", "virtualMachines", name, group="corp")


@pytest.fixture
def tool(parts: Parts, port: int, tmp_path: Path) -> Iterator[Change]:
    with az.installed(tmp_path / "bin", machines={vm(parts): ["127.0.0.1", port]}) as change:
        yield change


def way(parts: Parts) -> WayIn:
    cloud = KINDS["azure"].cloud
    assert cloud is not None
    return WayIn("azure", "bastion", cloud.reach["bastion"], cloud.user, parts.settings)


# ------------------------------------------------------------ which host


def test_the_host_is_that_of_the_network_or_of_one_that_is_peered_with_it_or_the_one_that_is_named(
    parts: Parts,
) -> None:
    own = find_host(parts.calls, parts.settings)
    assert own.id.endswith("/bastionHosts/hub") and own.group == "corp"
    spoke, hub = (
        parts.make_network("spoke", SUBNETS[0]),
        f"{parts.calls.path(group='corp')}/providers/Microsoft.Network/virtualNetworks/corp",
    )
    with pytest.raises(
        BadRequest, match=r"no Bastion host in the virtual network spoke, nor in one that is peered with it"
    ):
        find_host(parts.calls, {**parts.settings, "network": "spoke"})
    peering = {"properties": {"remoteVirtualNetwork": {"id": hub}}}
    parts.calls.run("PUT", f"{spoke}/virtualNetworkPeerings/hub", "peering", peering)
    assert find_host(parts.calls, {**parts.settings, "network": "spoke"}) == own
    assert find_host(parts.calls, {**parts.settings, "network": spoke, "bastion": "hub"}) == own
    assert find_host(parts.calls, {**parts.settings, "bastion": own.id}) == own
    with pytest.raises(BadRequest, match=r"there is no Bastion host .*/nobodys: mend `bastion`"):
        find_host(parts.calls, {**parts.settings, "bastion": "nobodys"})


@pytest.mark.parametrize(
    ("sku", "tunnels", "says"),
    [
        ("Basic", False, "has the SKU Basic, and tunnels take Standard: `az network bastion update --name low"),
        ("Developer", False, "has the SKU Developer, and tunnels take Standard"),
        ("Standard", False, r"has no tunnels \(native client support is off\): `az network bastion update --name low"),
    ],
)
def test_a_host_that_has_no_tunnels_is_told_with_the_command_that_gives_it_some(
    parts: Parts, sku: str, tunnels: bool, says: str
) -> None:
    network = parts.make_network("other", *SUBNETS)
    make_bastion(parts, network, "low", sku, tunnels=tunnels)
    with pytest.raises(BadRequest, match=says):
        find_host(parts.calls, {**parts.settings, "network": "other"})


def test_what_the_way_takes_is_looked_at_beforehand(
    parts: Parts, tool: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(parts.calls, parts.settings).id.endswith("/bastionHosts/hub")
    tool(extension=False)
    with pytest.raises(
        BadRequest, match=r"takes the extension `bastion` of the `az` command.*`az extension add --name bastion`"
    ):
        check(parts.calls, parts.settings)
    tool(extension=True, login=False)
    with pytest.raises(AuthFailed, match=r"is not logged in to the subscription .*`az login`"):
        check(parts.calls, parts.settings)
    (tmp_path / "bin" / "az").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(BadRequest, match="takes the `az` command, which is not on PATH here"):
        check(parts.calls, parts.settings)


def test_up_is_told_beforehand_what_the_way_lacks_with_the_place_in_the_file(parts: Parts, tool: Change) -> None:
    def objections() -> list[tuple[str, str]]:
        network = parts.network()
        review = Review(parts.calls, parts.settings, network, Skus(parts.calls), Images(parts.calls))
        return [(one.key, one.text) for one in review.of([])]

    assert objections() == []
    tool(extension=True, login=False)
    ((key, text),) = objections()
    assert key == "reach" and "is not logged in to the subscription" in text
    parts.settings["bastion"] = "nobody"
    ((key, text),) = objections()
    assert key == "bastion" and "nobody" in text


def test_the_machine_is_found_in_whichever_group_it_is(parts: Parts) -> None:
    assert find_machine(parts.calls, parts.settings, VM) == vm(parts), "nothing is asked where the group is known"
    id_ = vm(parts).replace("/corp/", "/other/")
    parts.calls.ask("PUT", parts.calls.path(group="other"), "making", {"location": "eastus"})
    parts.cloud.store.put(
        {"id": id_, "name": VM, "type": "Microsoft.Compute/virtualMachines", "location": "eastus", "properties": {}}
    )
    assert find_machine(parts.calls, {**parts.settings, "resource_group": ""}, VM) == id_
    with pytest.raises(BadRequest, match="shows no machine nobody in the subscription"):
        find_machine(parts.calls, {**parts.settings, "resource_group": ""}, "nobody")


# ------------------------------------------------------------ the line


def test_as_a_program_it_is_a_proxy_command_for_ssh_and_ends_az_with_its_line(
    parts: Parts, tool: Change, port: int
) -> None:
    """Both ends of it are one socket, as those of paramiko's and of OpenSSH's may be."""
    with contextlib.closing(Proxy(way(parts).command(VM, 22))) as line:
        data = secrets.token_bytes(300_000)
        sender = threading.Thread(target=line.sendall, args=(data,), daemon=True)
        sender.start()
        line.settimeout(60)
        got = b""
        while len(got) < len(data):
            more = line.recv(65536)
            assert more, line.stderr_tail()
            got += more
        sender.join(60)
        assert got == data
        programs = psutil.Process(line._process.pid).children(recursive=True)
        assert [p for p in programs if "tunnel" in p.cmdline()], "a shell, and what it runs"
    wait_until(lambda: line._process.poll() is not None, what="the program ended with its line")
    wait_until(lambda: not [p for p in programs if p.is_running() and p.status() != "zombie"], what="az ended as well")


def told(parts: Parts, machine: str = VM) -> str:
    """What the program says where there is no line."""
    with contextlib.closing(Proxy(way(parts).command(machine, 22))) as line:
        line.settimeout(60)
        assert line.recv(10) == b""
        said = line.stderr_tail()
    assert "Traceback" not in said, said
    return said


def test_a_program_that_finds_no_way_ends_with_a_sentence(parts: Parts, tool: Change) -> None:
    tool(extension=False)
    assert "lacks its extension `bastion`: `az extension add --name bastion`" in told(parts)
    tool(extension=True, login=False)
    assert "`az` is not logged in" in told(parts)
    tool(login=True, hosts=[])
    assert "the Bastion host has no tunnels" in told(parts)
    tool(hosts=None)
    assert "Resource not found" in told(parts, "gone")
    parts.cloud.world.denied = {"Microsoft.Network/bastionHosts/read"}
    assert "bastionHosts/read" in told(parts)


def test_one_that_is_told_to_end_leaves_no_az_behind(parts: Parts, tool: Change) -> None:
    with contextlib.closing(Proxy(way(parts).command(VM, 22))) as line:
        line.sendall(b"hello")
        line.settimeout(60)
        assert line.recv(10) == b"hello"
        program = psutil.Process(line._process.pid)
        programs = program.children(recursive=True)
        program.terminate()
        assert line.recv(10) == b""
    wait_until(lambda: not [p for p in programs if p.is_running() and p.status() != "zombie"], what="az ended as well")


def test_the_way_in_names_the_machine_and_opens_port_22_to_the_virtual_network_alone(
    parts: Parts, tool: Change
) -> None:
    ways = way(parts)
    assert ways.ssh_from == ("vpc",)
    assert ways.host(VM, Whereabouts("", NetworkPlace("s", "10.0.0.9"))) == VM
    command = ways.command(VM, 22)
    assert f"-m clusterctl_providers.azure.bastion {VM} 22 " in command and "--network=corp" in command
    assert "--region=eastus" in command
    ways.check()
    assert set(ways.reach.options) <= set(bastion.OPTIONS) and "az" in ways.reach.programs
