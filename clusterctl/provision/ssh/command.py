"""OpenSSH's own command for a target: the user's configuration counts as it is, but what the spec says wins, and host keys are
judged by files that we name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from clusterctl.provision.ssh.openssh import as_text, as_word, command_line
from clusterctl.provision.ssh.target import Target

KnownHosts = Callable[[Target], str]  # the value of UserKnownHostsFile for a host on the way, or the one that is meant


def ssh_argv(
    target: Target, known_hosts: KnownHosts, options: Sequence[str] = (), way: Sequence[str] = ()
) -> list[str]:
    """Up to the host's name. `options` (as in "Name=value") hold for the jump hosts as well. `way`: a program that leads there
    instead of the jump hosts or the command that the target has."""
    argv = ["ssh", *target.options, "-l", target.user, "-p", str(target.port)]
    argv += [word for option in options for word in ("-o", option)]
    argv += ["-o", f"UserKnownHostsFile={known_hosts(target)}", "-o", "StrictHostKeyChecking=yes"]
    argv += ["-o", f"HostName={as_text(target.host)}"]  # the zone of an IPv6 address has a %
    for key in target.keys:
        argv += ["-o", f"IdentityFile={as_word(key)}"]
    command = command_line(way) or _way(target, known_hosts, options)
    return [*argv, "-o", f"ProxyCommand={as_text(command)}"] if command else argv


def _way(target: Target, known_hosts: KnownHosts, options: Sequence[str]) -> str:
    """Not -J: the options above hold for jump hosts, too."""
    if not target.jumps:
        return target.command
    *before, last = target.jumps
    hop = replace(last, jumps=tuple(before))
    through = [*ssh_argv(hop, known_hosts, options), "-W", f"[{target.host}]:{target.port}"]
    return command_line([*through, "--", last.given])


def argv_of(options: Mapping[str, str], host: str) -> list[str]:
    """OpenSSH's client with these options of ssh_config and no file of them."""
    return ["ssh", "-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), host]
