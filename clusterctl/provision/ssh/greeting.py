"""The first words with an SSH server, up to its key: what it said is kept, so that a failure is told as what it was."""

from __future__ import annotations

from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from clusterctl.provision.ssh.trouble import HostTrouble, said

MAX_STARTUPS = "Exceeded MaxStartups"
PENALTY = "Not allowed at this time"
_ALGORITHMS = (  # what it is called, sshd's option, ours (of SecurityOptions), where the server's are in its first message
    ("key exchange", "KexAlgorithms", "kex", (0,)),
    ("kind of host key", "HostKeyAlgorithms", "key_types", (1,)),
    ("cipher", "Ciphers", "ciphers", (2, 3)),
    ("MAC", "MACs", "digests", (4, 5)),
)
_NO_CHOICE = ("ext-info-", "kex-strict-")  # stand among the key exchanges and are none


class NoAlgorithm(paramiko.SSHException):
    """Both sides speak SSH and have some kind of algorithm not in common; the message names it."""


class Greeted(paramiko.Transport):
    """A transport that keeps what the server said before it named itself, and what it offered."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.first_lines: list[str] = []

    def _check_banner(self) -> None:
        packetizer: Any = self.packetizer
        readline = packetizer.readline

        def kept(timeout: float) -> str:
            line = readline(timeout)
            self.first_lines.append(line)
            return line

        packetizer.readline = kept
        try:
            super()._check_banner()  # type: ignore[misc]  # pyright: ignore
        finally:
            packetizer.readline = readline

    def _parse_kex_init(self, m: paramiko.Message) -> None:
        offered = paramiko.Message(m.asbytes())
        try:
            super()._parse_kex_init(m)  # type: ignore[misc]  # pyright: ignore
        except IncompatiblePeer as error:
            raise NoAlgorithm(self._not_in_common(offered) or str(error)) from error

    def _not_in_common(self, offered: paramiko.Message) -> str:
        offered.get_bytes(16)
        lists = [offered.get_list() for _ in range(6)]
        options = self.get_security_options()
        missing: list[str] = []
        for name, option, ours, places in _ALGORITHMS:
            have = list(getattr(options, ours))
            for theirs in (lists[place] for place in places):
                if not set(theirs) & set(have):
                    words = ", ".join(word for word in theirs if not word.startswith(_NO_CHOICE)) or "none"
                    missing.append(
                        f"{name}: it takes {words}, and this side {', '.join(have)} ({option} in its sshd_config)"
                    )
                    break
        return "; ".join(missing)

    def hung_up(self, where: str, dials: int, error: Exception) -> HostTrouble:
        """What is to be told of a server that ended the connection before it showed its key."""
        words = said(" ".join(line for line in self.first_lines if not line.startswith("SSH-")))
        if PENALTY in words:
            return HostTrouble(
                "banned",
                f"{where} turns this address away for some time (it says {PENALTY!r}: PerSourcePenalties, after logins that "
                "failed): wait for some minutes, or see `sshd -T | grep -i penalties` there",
            )
        if MAX_STARTUPS in words:
            return HostTrouble(
                "hung_up",
                f"{where} hung up {_times(dials)}: too many logins to it are under way (it says {MAX_STARTUPS!r}): try "
                "again, or raise MaxStartups in its sshd_config",
            )
        if self.remote_version:
            return HostTrouble(
                "cut_off",
                f"{where} named itself ({said(self.remote_version)}) and hung up in the key exchange ({_what(error)}): its log "
                "tells why (`journalctl -u ssh` there)",
            )
        if self.first_lines:
            return HostTrouble(
                "no_ssh", f"{where} answers, but not as an SSH server should (it says {words!r}): is that its port?"
            )
        return HostTrouble(
            "hung_up",
            f"{where} hung up {_times(dials)} before it said a word: its sshd is busy (MaxStartups), blocks this address "
            "(fail2ban, hosts.deny) or is broken (`sshd -t` there); or that is not its port",
        )


def is_worth_another_dial(trouble: HostTrouble) -> bool:
    """A busy server turns some of many away, and so does one that restarts; whatever else it is, dialling again mends nothing,
    and trips those that count (fail2ban)."""
    return trouble.code == "hung_up"


def _times(dials: int) -> str:
    return "once" if dials == 1 else f"{dials} times"


def _what(error: Exception) -> str:
    return str(error) or type(error).__name__
