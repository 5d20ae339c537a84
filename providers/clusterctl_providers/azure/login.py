"""As whom Azure is called, where that is, and in which subscription.

The ways to a token are those of azure-identity's DefaultAzureCredential, in its order: the environment (a secret or a
certificate of an application; before it, a file with a secret, which AZURE_AUTH_LOCATION names), another provider's word
(workload identity), the identity of the machine, the login of `az`, `azd` or PowerShell. Only those are tried of which this
machine shows a sign, so that a laptop waits for nothing; of what goes wrong the first thing is told, in a sentence.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clusterctl.core.errors import AuthFailed
from clusterctl_providers.azure.login_errors import (
    APPLICATION,
    AZ,
    AZD,
    CERTIFICATE,
    FEDERATED,
    FILE,
    MACHINE,
    POWERSHELL,
    LoginFailed,
    explain,
)

GOOD_FOR = 300.0  # seconds that a token is good for at least
_LONGEST_RUN = 30  # seconds that `az` may take
_LINE = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 30}  # whoever calls repeats; ours to decide
_MACHINE_LINE = {"retry_total": 1, "retry_backoff_factor": 0.4, "connection_timeout": 2}
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"  # of the chassis of every machine on Azure
_METADATA = ("169.254.169.254", 80)
_PROBE = 0.5  # seconds for a machine's metadata service to take a connection
_KINDS = {  # what AZURE_TOKEN_CREDENTIALS calls them, as for azure-identity
    "prod": {FILE, APPLICATION, CERTIFICATE, FEDERATED, MACHINE},
    "dev": {AZ, AZD, POWERSHELL},
    "environmentcredential": {FILE, APPLICATION, CERTIFICATE},
    "workloadidentitycredential": {FEDERATED},
    "managedidentitycredential": {MACHINE},
    "azureclicredential": {AZ},
    "azuredeveloperclicredential": {AZD},
    "azurepowershellcredential": {POWERSHELL},
}
_IN_FILE = ("tenantId", "clientId", "clientSecret")
_OPEN = (AZ, AZD, POWERSHELL)  # who is logged in by one of them need not be by the others


@dataclass(frozen=True)
class _Cloud:
    """One of Microsoft's: as `az` calls it, the hosts of its login, and where its Resource Manager is."""

    name: str
    logins: tuple[str, ...]
    endpoint: str


_CLOUDS = (
    _Cloud(
        "AzureCloud",
        ("login.microsoftonline.com", "login.microsoft.com", "login.windows.net"),
        "https://management.azure.com",
    ),
    _Cloud(
        "AzureUSGovernment",
        ("login.microsoftonline.us", "login.usgovcloudapi.net"),
        "https://management.usgovcloudapi.net",
    ),
    _Cloud(
        "AzureChinaCloud",
        ("login.chinacloudapi.cn", "login.partner.microsoftonline.cn"),
        "https://management.chinacloudapi.cn",
    ),
)


def endpoint_of(settings: Mapping[str, Any]) -> str:
    """Where Azure Resource Manager is, without a slash at its end: that of the settings, else of the cloud that
    AZURE_AUTHORITY_HOST or `az` names."""
    return str(settings.get("endpoint_url") or _cloud().endpoint).rstrip("/")


def find_subscription(settings: Mapping[str, Any]) -> str:
    """Its id: of the settings, the environment, the file that AZURE_AUTH_LOCATION names, or the one that `az` works in; "" where
    none of them says."""
    given = str(settings.get("subscription") or "") or os.environ.get("AZURE_SUBSCRIPTION_ID", "")
    return given or str(_auth_file().get("subscriptionId") or _default_of_az().get("id") or "")


def find_login(settings: Mapping[str, Any], identity: str = "") -> Login:
    """What this machine shows signs of; nobody is asked yet. `identity`: the id of the managed identity that is ours, where the
    machine should have several."""
    # It warns of each refusal by itself, which is told in a sentence here.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    tenant = str(settings.get("tenant") or "")
    authority = _authority()
    return Login(list(_ways(tenant, authority, identity)), endpoint_of(settings), tenant)


class Login:
    """Tokens for Resource Manager. Thread-safe; a token is kept until it is nearly over."""

    def __init__(self, ways: list[tuple[str, Callable[[], Any]]], endpoint: str, tenant: str) -> None:
        # The scope is the endpoint's own: a token for Azure itself never goes to whoever a spec names as `endpoint_url`.
        self._ways, self._scope, self._tenant = ways, f"{endpoint}/.default", tenant
        self._credential: Any = None
        self._token, self._until = "", 0.0
        self._lock = threading.Lock()

    def token(self) -> str:
        """Good for some minutes at least. Raises LoginFailed."""
        with self._lock:
            if time.time() > self._until - GOOD_FOR:
                found = self._get()
                self._token, self._until = str(found.token), float(found.expires_on)
            return self._token

    @property
    def name(self) -> str:
        """Who that is, as far as the token says it: the name of a user, an application or a managed identity. Raises
        LoginFailed."""
        claims = _claims(self.token())
        for claim in ("upn", "unique_name", "preferred_username", "app_displayname"):
            if claims.get(claim):
                return str(claims[claim])
        if claims.get("xms_mirid"):
            return f"the managed identity {str(claims['xms_mirid']).rpartition('/')[2]}"
        return f"the application {claims['appid']}" if claims.get("appid") else "whoever is logged in here"

    @property
    def principal(self) -> str:
        """The id by which roles are given to who that is; "" where the token does not say. Raises LoginFailed."""
        return str(_claims(self.token()).get("oid") or "")

    def close(self) -> None:
        with self._lock:
            credential, self._credential, self._token, self._until = self._credential, None, "", 0.0
        if credential is not None:
            credential.close()

    # ------------------------------------------------------------ the first that works

    def _get(self) -> Any:
        if self._credential is not None:
            return self._credential.get_token(self._scope)
        refused: LoginFailed | None = None
        unavailable: list[str] = []
        for way, make in self._ways:
            try:
                return self._tried(way, make)
            except _Unavailable as error:
                unavailable.append(f"{way}: {error}")
            except LoginFailed as error:
                if way not in _OPEN:
                    raise
                refused = refused or error
        raise refused or _no_login(unavailable)

    def _tried(self, way: str, make: Callable[[], Any]) -> Any:
        from azure.identity import CredentialUnavailableError

        credential = None
        try:
            credential = make()
            found = credential.get_token(self._scope)
        except Exception as error:
            if credential is not None:
                credential.close()
            if isinstance(error, CredentialUnavailableError) and (why := _unavailable(way, str(error))):
                raise _Unavailable(why) from error
            raise explain(error, way, self._tenant) from error
        self._credential = _Kept(credential, way, self._tenant)
        return found


class _Unavailable(Exception):
    """This way leads nowhere on this machine: the next one may."""


@dataclass
class _Kept:
    """A credential that has worked: what goes wrong with it later is told, and no other is tried."""

    credential: Any
    way: str
    tenant: str

    def get_token(self, scope: str) -> Any:
        try:
            return self.credential.get_token(scope)
        except Exception as error:
            raise explain(error, self.way, self.tenant) from error

    def close(self) -> None:
        self.credential.close()


def _unavailable(way: str, text: str) -> str:
    """Why azure-identity did not even try, "" where it did and failed."""
    if way == MACHINE:
        if "invalid_request" in text or "No identity has been assigned" in text:
            return "it has none" if "Multiple" not in text else "it has several: set AZURE_CLIENT_ID to that of one"
        return ""
    if "Please run 'az login'" in text or "not logged in" in text.lower() or "run 'azd auth login'" in text:
        return "nobody is logged in"
    return "" if "AADSTS" in text else " ".join(text.split())[:200].rstrip(".")


def _no_login(unavailable: list[str]) -> LoginFailed:
    unavailable += [
        f"{one} is set, and {' and '.join(lacking)} not"
        for one in ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")
        if os.environ.get(one)
        and (lacking := [n for n in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID") if not os.environ.get(n)])
    ]
    why = f" ({'; '.join(unavailable)})" if unavailable else ""
    return LoginFailed(
        AuthFailed,
        f"this machine has no Azure credentials{why}; log in (`az login`), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
        "AZURE_CLIENT_SECRET; then `clusterctl doctor`",
    )


# ------------------------------------------------------------ the ways


def _ways(tenant: str, authority: str, identity: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(what it is called, what makes azure-identity's credential), of those with a sign that they may work. Several of a
    machine's own identities: the one that is named here, then the only one."""
    chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip().lower()
    wanted = _KINDS.get(chosen, set().union(*_KINDS.values()))
    for way, make in _all_ways(tenant, authority, identity, asked=chosen == "managedidentitycredential"):
        if way in wanted:
            yield way, make


def _all_ways(tenant: str, authority: str, identity: str, *, asked: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    # Instance discovery asks Microsoft whether the authority is one of theirs; it is what the user wrote, and that is enough.
    line = {"authority": authority, "disable_instance_discovery": True, **_LINE}
    env = os.environ
    if env.get("AZURE_AUTH_LOCATION"):
        yield FILE, lambda: _application_in_file(tenant, line)
    who = {"tenant_id": tenant or env.get("AZURE_TENANT_ID", ""), "client_id": env.get("AZURE_CLIENT_ID", "")}
    if all(who.values()):
        if env.get("AZURE_CLIENT_SECRET"):
            yield (
                APPLICATION,
                lambda: _identity().ClientSecretCredential(client_secret=env["AZURE_CLIENT_SECRET"], **who, **line),
            )
        if env.get("AZURE_CLIENT_CERTIFICATE_PATH"):
            yield CERTIFICATE, lambda: _certificate(who, line)
        if env.get("AZURE_FEDERATED_TOKEN_FILE"):
            yield (
                FEDERATED,
                lambda: _identity().WorkloadIdentityCredential(
                    token_file_path=env["AZURE_FEDERATED_TOKEN_FILE"], **who, **line
                ),
            )
    signed = asked or _is_on_azure()
    if signed:
        yield from _of_machine(identity)
    programs = [(AZ, "az", "AzureCliCredential"), (AZD, "azd", "AzureDeveloperCliCredential")]
    for way, program, name in [*programs, (POWERSHELL, "pwsh", "AzurePowerShellCredential")]:
        if shutil.which(program):
            yield way, lambda name=name: getattr(_identity(), name)(tenant_id=tenant, process_timeout=_LONGEST_RUN)
    if not signed and _answers(_METADATA):
        yield from _of_machine(identity)


def _of_machine(identity: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    given = os.environ.get("AZURE_CLIENT_ID", "")
    wanted = [{"client_id": given}] if given else [{"identity_config": {"resource_id": identity}}] if identity else []
    for one in [*wanted, {}] if not given else wanted:
        yield MACHINE, lambda one=one: _identity().ManagedIdentityCredential(**one, **_MACHINE_LINE)


def _application_in_file(tenant: str, line: Mapping[str, Any]) -> Any:
    found = _auth_file()
    if lacking := [key for key in _IN_FILE if not found.get(key)]:
        raise LoginFailed(
            AuthFailed,
            f"{os.environ['AZURE_AUTH_LOCATION']}, which AZURE_AUTH_LOCATION names, has no {', '.join(lacking)}: it has to be "
            "what `az ad sp create-for-rbac --json-auth` prints",
        )
    tenant_id, client_id, secret = (str(found[key]) for key in _IN_FILE)
    return _identity().ClientSecretCredential(
        tenant_id=tenant or tenant_id, client_id=client_id, client_secret=secret, **line
    )


def _auth_file() -> Mapping[str, Any]:
    """What is in the file that AZURE_AUTH_LOCATION names, as `az ad sp create-for-rbac --json-auth` prints it; {} for none."""
    try:
        found = json.loads(Path(os.environ["AZURE_AUTH_LOCATION"]).read_text("utf-8-sig"))
    except (KeyError, OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _certificate(who: Mapping[str, str], line: Mapping[str, Any]) -> Any:
    return _identity().CertificateCredential(
        certificate_path=os.environ["AZURE_CLIENT_CERTIFICATE_PATH"],
        password=os.environ.get("AZURE_CLIENT_CERTIFICATE_PASSWORD"),
        send_certificate_chain=os.environ.get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "").lower() in ("1", "true"),
        **who, **line,
    )  # fmt: skip


def _identity() -> Any:
    """Half a second to import: only where somebody logs in."""
    import azure.identity

    return azure.identity


# ------------------------------------------------------------ what this machine says


def _is_on_azure() -> bool:
    if any(os.environ.get(n) for n in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")):
        return True
    try:
        return Path("/sys/class/dmi/id/chassis_asset_tag").read_text("ascii", "replace").strip() == _AZURE_TAG
    except OSError:
        return False


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, _PROBE):
            return True
    except OSError:
        return False


def _authority() -> str:
    given = os.environ.get("AZURE_AUTHORITY_HOST", "").rstrip("/ ")
    if not given:
        return f"https://{_cloud().logins[0]}"
    return given if "://" in given else f"https://{given}"


def _cloud() -> _Cloud:
    """That of AZURE_AUTHORITY_HOST, else of the subscription that `az` works in, else the public one."""
    given = os.environ.get("AZURE_AUTHORITY_HOST", "").rstrip("/ ")
    host = urlsplit(given if "://" in given else f"https://{given}").netloc.lower()
    named = str(_default_of_az().get("environmentName") or "") if not given else ""
    return next((cloud for cloud in _CLOUDS if host in cloud.logins or cloud.name == named), _CLOUDS[0])


def _default_of_az() -> Mapping[str, Any]:
    """The subscription that `az` works in, as its own file has it; {} for none."""
    home = Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure")
    try:
        profile = json.loads((home / "azureProfile.json").read_text("utf-8-sig"))
        return next((dict(one) for one in profile.get("subscriptions") or () if one.get("isDefault")), {})
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _claims(token: str) -> Mapping[str, Any]:
    """What a token says of its bearer, for names in sentences only: Azure may change how it writes them."""
    try:
        payload = token.split(".")[1]
        return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    except (IndexError, ValueError, TypeError):
        return {}
