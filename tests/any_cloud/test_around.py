"""What a cluster has around its instances: names, keys, who may log in, what was made a moment ago, and how it goes again."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from clusterctl_providers.cloud.addresses import cidr, own_address, ssh_sources
from clusterctl_providers.cloud.keys import is_here, is_same, public_key
from clusterctl_providers.cloud.lately import Lately
from clusterctl_providers.cloud.naming import made_name
from clusterctl_providers.cloud.removal import removed

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError, Throttled
from tests.any_cloud.clock import Clock

UID = "11111111-2222-3333-4444-555555555555"

# ---------------------------------------------------------------- names


def test_a_name_says_whose_it_is() -> None:
    assert made_name("demo", UID, longest=63) == "clusterctl-demo-11111111"
    assert made_name("demo", UID, "gpu", "north-a", longest=63) == "clusterctl-demo-11111111-gpu-north-a"


@pytest.mark.parametrize("longest", [40, 63, 64])
@pytest.mark.parametrize("cluster", ["c" * 40, "a-" * 20 + "a"])
def test_a_name_that_is_too_long_is_cut_and_is_still_the_only_one(cluster: str, longest: int) -> None:
    parts = [("worker", str(n)) for n in range(30)] + [("head",), ("pool-" + "x" * 30, "1"), ("pool-" + "x" * 30, "2")]
    names = [made_name(cluster, UID, *some, longest=longest) for some in parts]
    assert len(set(names)) == len(names) and names == [
        made_name(cluster, UID, *some, longest=longest) for some in parts
    ]
    for name in names:
        assert len(name) <= longest and "11111111" in name
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), "what Google Cloud takes"


# ---------------------------------------------------------------- keys


def make_key(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "me@here", *options, "-f", str(path)], check=True)
    return path


def test_the_public_half_is_read_or_taken_from_the_key_itself(tmp_path: Path) -> None:
    key = make_key(tmp_path / "id", "-t", "ed25519")
    written = public_key(key, "Acme")
    key.with_suffix(".pub").unlink()
    assert written.split()[:2] == public_key(key, "Acme").split()[:2]


def test_the_private_half_may_be_with_an_agent_alone(tmp_path: Path) -> None:
    key = make_key(tmp_path / "id", "-t", "ed25519")
    key.unlink()
    assert public_key(key, "Acme") == public_key(tmp_path / "id.pub", "Acme") and is_here(key)
    key.with_suffix(".pub").unlink()
    assert not is_here(key)
    with pytest.raises(BadRequest, match=r"the public half of .* is not to be had .*: ssh-keygen -y"):
        public_key(key, "Acme")


def test_a_kind_of_key_that_nobody_takes_is_told(tmp_path: Path) -> None:
    key = make_key(tmp_path / "id", "-t", "ecdsa")
    with pytest.raises(BadRequest, match=r"Acme takes ed25519 and RSA keys, .* is ecdsa-sha2-nistp256"):
        public_key(key, "Acme")


@pytest.mark.parametrize(
    ("known", "same"),
    [("ssh-rsa AAAA you@there", True), ("ssh-rsa AAAA", True), ("ssh-rsa BBBB me@here", False), ("", True)],
)
def test_two_keys_are_one_whatever_their_comments(known: str, same: bool) -> None:
    assert is_same(known, b"ssh-rsa AAAA me@here") is same


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], set()),
        (["192.0.2.7", "198.51.100.77/24"], {"192.0.2.7/32", "198.51.100.0/24"}),
        (["2001:db8::7", "2001:db8:1::/48"], {"2001:db8::7/128", "2001:db8:1::/48"}),
        (["me"], {"203.0.113.5/32"}),
        (["vpc", "me"], {"10.0.0.0/16", "fd00::/56", "203.0.113.5/32"}),
    ],
)
def test_the_words_of_ssh_from_are_networks(words: list[str], found: set[str]) -> None:
    assert ssh_sources(words, lambda: "203.0.113.5", lambda: ["10.0.0.0/16", "fd00::/56"]) == found


@pytest.mark.parametrize("word", ["everywhere", "", "300.1.1.1", "10.0.0.0/33", "Me"])
def test_what_is_no_address_is_told(word: str) -> None:
    with pytest.raises(BadRequest, match="is no address, no network, not `me` and not `vpc`"):
        cidr(word)


@pytest.fixture
def oracle() -> Iterator[str]:
    """Says who asks, as the clouds' services for it do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{self.client_address[0]}\n".encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(60)


def test_our_own_address_is_asked_for_or_to_be_written_down(oracle: str) -> None:
    assert own_address(oracle, "provider: {acme: {ssh_from: [...]}}") == "127.0.0.1"
    with pytest.raises(ProviderError, match=r"could not be found out at http://127.0.0.1:1 .*`provider: \{acme: "):
        own_address("http://127.0.0.1:1", "provider: {acme: {ssh_from: [...]}}")


# ---------------------------------------------------------------- what was made lately, and how it goes


def test_what_we_made_a_moment_ago_is_not_gone_and_what_was_looked_for_long_ago_may_be() -> None:
    clock = Clock()
    lately = Lately(clock, 60.0)
    assert not lately.is_made("group") and not lately.is_worth_a_look("group"), (
        "it was never looked for: it is not ours"
    )
    lately.look("group")
    lately.make("group")
    clock.now += 59.9
    assert lately.is_made("group") and not lately.is_worth_a_look("group") and not lately.is_made("key")
    clock.now += 0.1
    assert not lately.is_made("group") and lately.is_worth_a_look("group")
    lately.look("group")
    assert not lately.is_worth_a_look("group")


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, []),
        (BadRequest("404 no such thing"), []),
        (BadRequest("409 it is in use"), ["the firewall f is still in use"]),
        (Throttled("Acme limits the calls"), ["Acme limits the calls"]),
    ],
)
def test_what_is_gone_is_done_and_what_is_in_use_waits(error: ProviderError | None, left: list[str]) -> None:
    def call() -> None:
        if error:
            raise error

    def starts(text: str) -> object:
        return lambda found: str(found).startswith(text)

    assert removed(call, "the firewall f", starts("404"), starts("409")) == left  # type: ignore[arg-type]


def test_what_cannot_go_is_an_error() -> None:
    def call() -> None:
        raise AuthFailed("may not")

    with pytest.raises(AuthFailed):
        removed(call, "the firewall f", lambda _: False, lambda _: False)
