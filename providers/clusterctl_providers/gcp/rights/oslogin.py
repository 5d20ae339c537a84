"""OS Login: Google's roles decide who gets into a machine, and the key is in the profile of whoever logs in, not in the
machine's metadata. For organisations that want it so (constraints/compute.requireOsLogin).

The cluster's key carries its uid as its comment, by which `forget` knows it again; a key that the profile had already is the
user's own, and stays.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.cloud.keys import public_key
from clusterctl_providers.cloud.naming import OURS, UID_PART
from clusterctl_providers.cloud.removal import removed
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.errors import is_missing

PERMISSION = "compute.instances.osAdminLogin"  # to log in, and to become root
USERINFO = "openidconnect"  # says whose a user's token is


class OsLogin:
    """Thread-safe; asks Google once per process."""

    def __init__(self, calls: Calls, settings: Mapping[str, Any], auth: Mapping[str, Any], uid: str) -> None:
        self._calls, self._auth = calls, auth
        self.wanted = bool(settings.get("os_login"))
        self._comment = f"{OURS}-{uid[:UID_PART]}"
        self._user = ""
        self._lock = threading.Lock()

    def user(self) -> str:
        """Who logs in with the key of the spec, or the one that was minted: it is put into the caller's profile where it is
        missing. "" where OS Login is not wanted."""
        if not self.wanted:
            return ""
        with self._lock:
            self._user = self._user or self._let_in()
            return self._user

    def forget(self) -> list[str]:
        """Takes the cluster's key out of the profile. Returns a sentence for each thing that has to wait."""
        if not self.wanted:
            return []
        waiting: list[str] = []
        for fingerprint, row in (self._profile().get("sshPublicKeys") or {}).items():
            if str(row.get("key") or "").split()[2:] == [self._comment]:
                path, thing = (
                    f"v1/users/{self._email()}/sshPublicKeys/{fingerprint}",
                    f"the cluster's key of {self._email()}",
                )
                waiting += removed(
                    lambda path=path, thing=thing: self._calls.ask("DELETE", path, f"removing {thing}", service="oslogin"),
                    thing, is_missing, lambda error: False,
                )  # fmt: skip
        self._user = ""
        return waiting

    def _let_in(self) -> str:
        path = str(self._auth.get("key") or "")
        if not path:
            raise BadRequest("there is no key to log in with by OS Login: `up` mints one, or write `auth: {key: ...}`")
        kind, text = public_key(Path(path).expanduser(), "Google Cloud").decode().split()[:2]
        profile = self._profile()
        rows = (profile.get("sshPublicKeys") or {}).values()
        if not any(str(row.get("key") or "").split()[:2] == [kind, text] for row in rows):
            what = f"putting the cluster's key into the OS Login profile of {self._email()}"
            answer = self._calls.ask(
                "POST", f"v1/users/{self._email()}:importSshPublicKey", what, {"key": f"{kind} {text} {self._comment}"},
                "oslogin", projectId=self._calls.project,
            )  # fmt: skip
            profile = dict(answer.get("loginProfile") or {})
        return _posix_name(profile, self._email())

    def _profile(self) -> dict[str, Any]:
        what = f"looking at the OS Login profile of {self._email()}"
        try:
            return self._calls.get(
                f"v1/users/{self._email()}/loginProfile", what, "oslogin", projectId=self._calls.project
            )
        except ProviderError as error:
            if is_missing(error):  # it begins with the first key
                return {}
            raise

    def _email(self) -> str:
        """Whose profile it is. A user's own login does not know it, and Google is asked."""
        caller = self._calls.caller
        if "@" in caller:
            return caller
        found = self._calls.get("v1/userinfo", "asking Google who is logged in here", USERINFO)
        email = str(found.get("email") or "")
        if not email:
            raise AuthFailed(
                "the login of this machine does not say whose it is, which OS Login has to know: log in again "
                "(`gcloud auth application-default login`), or use a service account"
            )
        return email


def _posix_name(profile: Mapping[str, Any], email: str) -> str:
    accounts = [one for one in profile.get("posixAccounts") or () if one.get("username")]
    if not accounts:
        raise BadRequest(
            f"the OS Login profile of {email} has no POSIX account: ask who administers your organisation for one"
        )
    return str(next((one for one in accounts if one.get("primary")), accounts[0])["username"])
