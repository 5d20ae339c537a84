"""The user's login: keys are offered until one is taken. What the server says to each is told apart: not this key, no keys
at all, this key and something more, nothing for a long time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import paramiko

from clusterctl.provision.ssh.identities import KeyTrouble, identities
from clusterctl.provision.ssh.target import Target
from clusterctl.provision.ssh.trouble import HostTrouble, said

_MANY = 3  # keys: from so many on, sshd's MaxAuthTries (6, often less) is what ended it


@dataclass
class _Login:
    transport: paramiko.Transport
    hop: Target
    where: str
    seconds: float
    tried: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)  # keys after which it wanted more
    wants: list[str] = field(default_factory=list)  # by which it says one may go on, once it has said so
    offered: int = 0

    def offer(self, key: paramiko.PKey) -> bool:
        """Whether that was all it wanted. Raises HostTrouble when nothing more can be offered."""
        began = time.monotonic()
        self.offered += 1
        try:
            rest = self.transport.auth_publickey(self.hop.user, key)
        except paramiko.BadAuthenticationType as error:
            self.wants = list(error.allowed_types)
            raise self.no_keys() from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self.transport.is_active():
                raise self.cut_off(error) from error
            if time.monotonic() - began >= self.seconds:
                raise self.too_slow() from error
            return False
        if rest:
            self.taken.append(self.tried[-1])
            self.wants = list(rest)
            if "publickey" not in rest:
                raise self.second_factor()
        return not rest

    def without_keys(self) -> bool:
        """Some servers know the user by other means (a private network's own), and all say what they take."""
        try:
            return not self.transport.auth_none(self.hop.user)
        except paramiko.BadAuthenticationType as error:
            self.wants = list(error.allowed_types)
            if "publickey" not in self.wants:
                raise self.no_keys() from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self.transport.is_active():
                raise self.cut_off(error) from error
        return False

    @property
    def keys(self) -> str:
        return ", ".join(dict.fromkeys(self.tried)) or "no key at all: set `auth.key`"

    @property
    def banner(self) -> str:
        words = said(self.transport.get_banner() or b"")
        return f". It says: {words}" if words else ""

    def second_factor(self) -> HostTrouble:
        """For a server that took a key and wants something that nobody is there to give."""
        return HostTrouble(
            "second_factor",
            f"{self.where} takes the key {self.taken[-1]} of {self.hop.user!r} and wants a second factor: "
            f"{' or '.join(self.wants)} (AuthenticationMethods in its sshd_config). Nobody is there to answer when the tunnel "
            "logs in again by itself: let this user in by its key alone there (`Match User ...`, `AuthenticationMethods "
            "publickey`)",
        )

    def no_keys(self) -> HostTrouble:
        """For a server that takes no keys (any more) from this user."""
        if self.taken:
            return self.second_factor()
        return HostTrouble(
            "no_keys_taken",
            f"{self.where} lets {self.hop.user!r} in by no key, only by {' or '.join(self.wants) or 'nothing'}: write "
            "`PubkeyAuthentication yes` into its sshd_config",
        )

    def too_slow(self) -> HostTrouble:
        """For a server that said neither yes nor no in time."""
        return HostTrouble(
            "slow_login",
            f"{self.where} did not decide on the login of {self.hop.user!r} within {self.seconds:g} s (tried {self.keys}). It "
            "did not refuse it: what its sshd asks about users and addresses (PAM, LDAP, DNS with UseDNS) does not answer, or "
            "packets are lost on the way",
        )

    def cut_off(self, error: Exception) -> HostTrouble:
        """For a connection that ended in the middle; how many keys were tried tells the likely reason."""
        why = (
            "after so many keys sshd hangs up (MaxAuthTries): name the right one in `key`; or it is shutting down"
            if self.offered >= _MANY
            else "the account may have expired, be locked or shut out (PAM, /etc/nologin), or its sshd is shutting down: its "
            "log tells (`journalctl -u ssh` there)"
        )
        return HostTrouble(
            "login_cut",
            f"{self.where} hung up while {self.hop.user!r} logged in (tried {self.keys}): {why}{self.banner}",
        )

    def refused(self) -> HostTrouble:
        """For the end, when all keys were tried."""
        if self.taken:
            return HostTrouble(
                "second_factor",
                f"{self.where} takes the key {self.taken[-1]} of {self.hop.user!r} and wants one more, by "
                f"{' or '.join(self.wants)} (AuthenticationMethods in its sshd_config); tried {self.keys}",
            )
        return HostTrouble(
            "login",
            f"{self.where} does not let {self.hop.user!r} in (tried {self.keys}): put the public key into "
            f"~{self.hop.user}/.ssh/authorized_keys there. If it is there, its log tells what keeps it out (modes of the home, "
            f"AllowUsers, PermitRootLogin, a locked account){self.banner}",
        )


def log_in(transport: paramiko.Transport, hop: Target, where: str, seconds: float) -> None:
    """`seconds`: that the server gets for each key. Raises HostTrouble."""
    transport.auth_timeout = seconds
    login = _Login(transport, hop, where, seconds)
    try:
        for key in identities(hop, login.tried):
            if login.offer(key):
                return
    except KeyTrouble as error:
        raise HostTrouble("no_key", f"{error}: check `key` in the spec") from error
    if not login.offered and login.without_keys():
        return
    raise login.refused()
