"""As whom Azure is called: every sort of login works, and each that does not is told with what to do."""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.azure import login as logins
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.login import endpoint_of, find_subscription
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from clusterctl.core.errors import AuthFailed, UnknownOutcome
from tests.azure.desk import Desk
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.federation import word
from tests.cloud.azure.tokens import Application
from tests.cloud.azure.world import SUBSCRIPTION, TENANT, Principal

WHAT = "listing groups"
LIST = f"/subscriptions/{SUBSCRIPTION}/resourcegroups"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/lab"
IDENTITIES = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
ANN = Principal("ann@example.com", "0b1ec7", "")


@pytest.fixture
def cloud() -> Iterator[AzureCloud]:
    """Whoever logs in may do everything there."""
    with AzureCloud() as cloud:
        cloud.world.policy = None
        yield cloud


@pytest.fixture
def desk(cloud: AzureCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """And a machine that shows no sign of any login."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(logins, "_METADATA", ("127.0.0.1", 9))  # where nobody listens
    return Desk(cloud, tmp_path, monkeypatch)


def calls(desk: Desk, login_as: str = "", **settings: Any) -> Calls:
    given = {
        "subscription": SUBSCRIPTION,
        "region": "eastus",
        "endpoint_url": desk.cloud.url,
        "calls_per_second": 500.0,
    }
    found = Calls({**given, **settings}, pause=lambda seconds: None)
    found.login_as = lambda: login_as
    return found


def who(desk: Desk, **settings: Any) -> str:
    """As whom Azure was called."""
    ours = calls(desk, **settings)
    ours.list(LIST, WHAT)
    ours.close()
    return desk.cloud.world.called_by[-1][0]


def told(desk: Desk, kind: type[Exception] = AuthFailed, **settings: Any) -> str:
    ours = calls(desk, **settings)
    with pytest.raises(kind) as caught:
        ours.get(LIST, WHAT)
    ours.close()
    assert type(caught.value) is kind, caught.value
    said = str(caught.value)
    assert said.startswith(f"{WHAT}: ") and "Trace ID" not in said and "aka.ms/azsdk" not in said and "\n" not in said
    return said


def application(desk: Desk, name: str = "ci", **more: Any) -> Application:
    return desk.cloud.tokens.add(name, **{"secrets": {"s3cret"}, **more})


# ------------------------------------------------------------ each of them works


def test_an_applications_secret_is_a_login(desk: Desk) -> None:
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    assert who(desk) == "ci" and calls(desk).caller == "ci" and calls(desk).principal


def test_a_file_with_an_applications_secret_is_a_login_and_says_the_subscription(desk: Desk, tmp_path: Path) -> None:
    """What a head in another cloud is given."""
    file, ours = tmp_path / "head.json", application(desk)
    known = {"clientId": ours.principal.client_id, "clientSecret": "s3cret", "tenantId": TENANT, "subscriptionId": "7"}
    file.write_text(json.dumps(known))
    desk.knows(AZURE_AUTH_LOCATION=str(file))
    assert who(desk) == "ci" and find_subscription({}) == "7" and find_subscription({"subscription": "8"}) == "8"
    file.write_text(json.dumps({**known, "clientSecret": "another"}))
    assert "does not take the secret in the file that AZURE_AUTH_LOCATION names" in told(desk)
    for text in ("", "[]", json.dumps({**known, "tenantId": ""})):
        file.write_text(text)
        assert "head.json, which AZURE_AUTH_LOCATION names, has no tenantId" in told(desk)


def test_an_applications_certificate_is_a_login(desk: Desk, tmp_path: Path) -> None:
    ours = application(desk)
    pem = certificate(tmp_path / "cert.pem")
    desk.knows(ours, AZURE_CLIENT_CERTIFICATE_PATH=str(tmp_path / "cert.pem"))
    assert (
        "AADSTS700027" in (said := told(desk)) and "`az ad app credential reset --append --id CLIENT_ID --cert" in said
    )
    ours.certificates.append(pem)
    assert who(desk) == "ci"


def test_another_providers_word_is_a_login(desk: Desk, tmp_path: Path) -> None:
    ours = application(desk)
    file = tmp_path / "token"
    file.write_text(word("repo:me/mine:ref:refs/heads/main"))
    desk.knows(ours, AZURE_FEDERATED_TOKEN_FILE=str(file))
    assert "AADSTS700213" in (said := told(desk)) and "federated-credential create" in said
    ours.trusted.add(("https://token.actions.githubusercontent.com", "repo:me/mine:ref:refs/heads/main"))
    assert who(desk) == "ci"
    file.unlink()
    said = told(desk)
    assert "the token in AZURE_FEDERATED_TOKEN_FILE is not to be had" in said and str(file) in said


def test_the_identity_of_the_machine_is_a_login(desk: Desk) -> None:
    identity(desk, "mine")
    desk.knows(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url)
    assert who(desk) == "mine" and calls(desk).caller == "the managed identity mine"


def test_a_machine_with_several_identities_takes_the_one_that_is_named(desk: Desk) -> None:
    identity(desk, "policys")
    ours = identity(desk, "clusters")
    desk.knows(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url)
    assert "it has several: set AZURE_CLIENT_ID" in told(desk)
    assert who(desk, login_as=f"{IDENTITIES}/clusters") == "clusters"
    assert "no Azure credentials" in told(desk, login_as=f"{IDENTITIES}/somebodys")
    desk.set(AZURE_CLIENT_ID=ours.client_id)
    assert who(desk) == "clusters"


def test_whoever_has_another_machine_than_the_heads_takes_its_only_identity(desk: Desk) -> None:
    identity(desk, "desks")
    desk.knows(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url)
    assert who(desk, login_as=f"{IDENTITIES}/clusters") == "desks"


def test_a_machine_that_shows_no_sign_of_its_identity_is_asked_last(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something answers at the address of its metadata service; azure-identity itself is told where that is."""
    identity(desk, "mine")
    host, _, port = desk.cloud.url.removeprefix("https://").partition(":")
    monkeypatch.setattr(logins, "_METADATA", (host, int(port)))
    desk.knows()
    real = logins._of_machine

    def of_machine(identity: str) -> Any:
        desk.set(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url)
        return real(identity)

    monkeypatch.setattr(logins, "_of_machine", of_machine)
    assert who(desk) == "mine"


def test_the_login_of_az_is_a_login_and_az_is_run_once(desk: Desk) -> None:
    desk.knows()
    log = desk.az(ANN)
    ours = calls(desk, tenant=TENANT)
    for _ in range(3):
        ours.list(LIST, WHAT)
    assert {name for name, _ in desk.cloud.world.called_by} == {"ann@example.com"}
    assert ours.caller == "ann@example.com" and ours.principal == ANN.object_id
    (argv,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert argv[:2] == ["account", "get-access-token"] and argv[argv.index("--tenant") + 1] == TENANT
    assert argv[argv.index("--resource") + 1] == desk.cloud.url


def test_a_token_that_is_nearly_over_is_renewed(desk: Desk) -> None:
    desk.knows()
    log = desk.az(ANN, seconds=200)
    ours = calls(desk)
    for _ in range(2):
        ours.get(LIST, WHAT)
    assert len(log.read_text().splitlines()) == 2


def test_the_environment_goes_before_the_machine_and_the_machine_before_az(desk: Desk) -> None:
    desk.az(ANN)
    desk.knows()
    assert who(desk) == "ann@example.com"
    desk.set(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url)
    assert who(desk) == "ann@example.com", "a machine without an identity is no obstacle"
    identity(desk, "mine")
    assert who(desk) == "mine"
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    assert who(desk) == "ci"


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ("prod", "ci"),
        ("dev", "ann@example.com"),
        ("AzureCliCredential", "ann@example.com"),
        ("ManagedIdentityCredential", "mine"),
    ],
)
def test_who_is_meant_may_be_said_as_everywhere_else(desk: Desk, chosen: str, name: str) -> None:
    desk.az(ANN)
    client = identity(desk, "mine").client_id
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    if name == "mine":
        desk.set(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url, AZURE_CLIENT_ID=client)
    desk.set(AZURE_TOKEN_CREDENTIALS=chosen)
    assert who(desk) == name


def test_the_tenant_of_the_settings_counts(desk: Desk) -> None:
    other = "0" * 8 + "-0000-4000-8000-" + "0" * 12
    desk.cloud.tokens.tenants.append(other)
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    assert who(desk, tenant=other) == "ci"
    asked = [path.split("/")[1] for path in desk.cloud.tokens.asked]
    assert set(asked) == {other}


def test_a_login_that_lapsed_is_taken_up_again_without_a_restart(desk: Desk) -> None:
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    ours = calls(desk)
    ours.get(LIST, WHAT)
    desk.cloud.world.lapsed = True
    with pytest.raises(AuthFailed, match="ExpiredAuthenticationToken"):
        ours.get(LIST, WHAT)
    desk.cloud.world.lapsed = False
    assert "value" in ours.get(LIST, WHAT)


# ------------------------------------------------------------ and what is wrong is told


def test_a_machine_without_any_login_is_told_how_to_get_one_at_once(desk: Desk) -> None:
    desk.knows()
    since = time.monotonic()
    said = told(desk)
    assert time.monotonic() - since < 2.0
    assert said == (
        f"{WHAT}: this machine has no Azure credentials; log in (`az login`), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
        "AZURE_CLIENT_SECRET; then `clusterctl doctor`"
    )


def test_a_secret_without_the_rest_is_told_as_that(desk: Desk) -> None:
    desk.knows(AZURE_CLIENT_SECRET="s3cret", AZURE_CLIENT_ID="x")
    assert "AZURE_CLIENT_SECRET is set, and AZURE_TENANT_ID not" in told(desk)


def test_an_az_that_nobody_is_logged_in_to(desk: Desk) -> None:
    desk.knows()
    desk.program(stderr="ERROR: Please run 'az login' to setup account.\n", code=1)
    assert "(`az login`: nobody is logged in); log in (`az login`)" in told(desk)
    desk.program(stdout="hello")
    assert "Unexpected output from Azure CLI" in told(desk)


def test_a_login_of_az_that_has_expired_is_told_with_the_command_that_az_names(desk: Desk) -> None:
    desk.knows()
    desk.program(
        stderr="ERROR: AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks by conditional "
        "access. Trace ID: 1 Correlation ID: 2 Timestamp: 2026-01-01 00:00:00Z\nInteractive authentication is needed. Please "
        "run:\naz login --tenant \"t\" --scope \"https://management.core.windows.net//.default\"\n",
        code=1,
    )  # fmt: skip
    said = told(desk)
    assert (
        "AADSTS70043" in said
        and '`az login --tenant "t" --scope "https://management.core.windows.net//.default"`' in said
    )


def test_another_factor_that_az_has_to_ask_for(desk: Desk) -> None:
    desk.knows()
    desk.program(
        stderr="ERROR: AADSTS50076: Due to a configuration change made by your administrator, or because you moved to a new "
        "location, you must use multi-factor authentication to access '797f4846-ba00-4fd7-ba43-dac1f8f63013'. Trace ID: 1\n",
        code=1,
    )
    said = told(desk, tenant=TENANT)
    assert "AADSTS50076" in said and f"`az login --tenant {TENANT}`" in said and "another factor" in said


def test_one_program_that_does_not_work_is_no_obstacle_to_the_next(desk: Desk) -> None:
    desk.knows()
    desk.program(stderr="ERROR: AADSTS700082: The refresh token has expired due to inactivity.", code=1)
    assert "AADSTS700082" in told(desk)
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    answer = {"token": desk.token(ANN), "expiresOn": when.strftime("%Y-%m-%dT%H:%M:%SZ")}
    desk.program(json.dumps(answer), name="azd")
    assert who(desk) == "ann@example.com"


@pytest.mark.parametrize(
    ("wrong", "number", "mended"),
    [
        ("secret", "AADSTS7000215", "take the value of a secret, not its id"),
        ("expired", "AADSTS7000222", "`az ad app credential reset --append --id CLIENT_ID`"),
        ("tenant", "AADSTS90002", "mend AZURE_TENANT_ID or `tenant` of the provider"),
        ("application", "AADSTS700016", "mend AZURE_CLIENT_ID or AZURE_TENANT_ID"),
        ("disabled", "AADSTS7000112", "the application is disabled"),
        ("rule", "AADSTS53003", "a rule of your organisation asks for more"),
    ],
)
def test_what_microsoft_refuses_is_told_by_its_number_with_what_to_do(
    desk: Desk, wrong: str, number: str, mended: str
) -> None:
    ours = application(desk, expired={"s3cret"} if wrong == "expired" else set(), enabled=wrong != "disabled")
    desk.knows(ours, AZURE_CLIENT_SECRET="wr0ng" if wrong == "secret" else "s3cret")
    if wrong == "tenant":
        desk.set(AZURE_TENANT_ID="nobodys.example.com")
    if wrong == "application":
        desk.cloud.tokens.applications.clear()
    if wrong == "rule":
        desk.cloud.tokens.rule = (53003, "Access has been blocked by Conditional Access policies.")
    said = told(desk)
    assert number in said and mended in said and "the secret in AZURE_CLIENT_SECRET" in said
    assert "s3cret" not in said and "wr0ng" not in said


def test_a_clock_that_is_wrong_is_told_as_that(desk: Desk, tmp_path: Path) -> None:
    ours = application(desk, certificates=[certificate(tmp_path / "cert.pem")])
    desk.knows(ours, AZURE_CLIENT_CERTIFICATE_PATH=str(tmp_path / "cert.pem"))
    desk.cloud.world.clock_offset = 3 * 3600.0
    assert "this machine's clock is wrong" in told(desk)


@pytest.mark.parametrize("content", ["", "-----BEGIN NOTHING-----", None])
def test_a_certificate_that_is_not_whole_or_not_there_is_told(desk: Desk, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "cert.pem"
    if content is not None:
        file.write_text(content)
    desk.knows(application(desk), AZURE_CLIENT_CERTIFICATE_PATH=str(file))
    assert "the certificate in AZURE_CLIENT_CERTIFICATE_PATH" in told(desk)


def test_a_login_service_that_is_away_or_broken_is_no_fault_of_the_credentials(desk: Desk) -> None:
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    for status in (500, 503, 429):
        desk.cloud.tokens.broken = status
        assert "Microsoft's login is busy or broken" in told(desk, UnknownOutcome)
    desk.set(AZURE_AUTHORITY_HOST="https://127.0.0.1:9")
    assert "Microsoft's login could not be reached" in told(desk, UnknownOutcome)
    desk.set(AZURE_AUTHORITY_HOST="https://login.nowhere.invalid")
    assert "the name of Microsoft's login is not known here" in told(desk, UnknownOutcome)


def test_a_metadata_service_that_is_broken_is_no_fault_of_the_identity(desk: Desk) -> None:
    identity(desk, "mine")
    desk.knows(AZURE_POD_IDENTITY_AUTHORITY_HOST=desk.cloud.url)
    desk.cloud.tokens.broken = 500
    assert "the metadata service of this machine gives no token" in told(desk, UnknownOutcome)


def test_a_ca_that_is_not_trusted_and_a_proxy_that_is_away_are_told(desk: Desk, tmp_path: Path) -> None:
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REQUESTS_CA_BUNDLE")
        assert "name the CA of your network in REQUESTS_CA_BUNDLE" in told(desk, UnknownOutcome)
    desk.set(HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="")
    assert "see HTTPS_PROXY and NO_PROXY" in told(desk, UnknownOutcome)


def test_nobody_else_is_asked_than_those_that_are_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-identity would ask Microsoft whether the login is one of theirs."""
    asked: set[str] = set()
    real = socket.getaddrinfo

    def noted(host: Any, *rest: Any, **more: Any) -> Any:
        asked.add(str(host))
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    desk.knows(application(desk), AZURE_CLIENT_SECRET="s3cret")
    assert who(desk) == "ci" and asked <= {"127.0.0.1"}


def test_a_token_is_asked_for_the_endpoint_and_no_other(desk: Desk) -> None:
    """So that a spec which names somebody's endpoint gets no token of Azure's."""
    desk.knows()
    log = desk.az(ANN)
    told(desk, UnknownOutcome, endpoint_url="https://127.0.0.1:9")
    assert "https://127.0.0.1:9" in json.loads(log.read_text()) and "management.azure.com" not in log.read_text()


# ------------------------------------------------------------ which cloud, which subscription


@pytest.mark.parametrize(
    ("authority", "endpoint"),
    [
        ("", "https://management.azure.com"),
        ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net"),
        ("login.chinacloudapi.cn/", "https://management.chinacloudapi.cn"),
    ],
)
def test_the_cloud_follows_from_its_login(desk: Desk, authority: str, endpoint: str) -> None:
    desk.set(AZURE_AUTHORITY_HOST=authority)
    assert endpoint_of({}) == endpoint
    assert endpoint_of({"endpoint_url": "https://mine/"}) == "https://mine"


def test_the_cloud_and_the_subscription_are_those_of_az_where_nothing_else_says(desk: Desk, tmp_path: Path) -> None:
    assert find_subscription({}) == ""
    rows = [
        {"id": "one", "isDefault": False, "environmentName": "AzureCloud"},
        {"id": "two", "isDefault": True, "environmentName": "AzureUSGovernment"},
    ]
    (tmp_path / ".azure").mkdir()
    file = tmp_path / ".azure" / "azureProfile.json"
    file.write_text("\ufeff" + json.dumps({"subscriptions": rows}), "utf-8")
    assert find_subscription({}) == "two" and endpoint_of({}) == "https://management.usgovcloudapi.net"
    desk.set(AZURE_SUBSCRIPTION_ID="three")
    assert find_subscription({}) == "three" and find_subscription({"subscription": "four"}) == "four"
    desk.set(AZURE_SUBSCRIPTION_ID="")
    for broken in ("", "[]", "{", '{"subscriptions": [1]}'):
        file.write_text(broken)
        assert find_subscription({}) == ""
    desk.set(AZURE_CONFIG_DIR=str(tmp_path / "elsewhere"))
    assert find_subscription({}) == ""


def test_no_subscription_at_all_is_told_with_its_place_in_the_file(desk: Desk) -> None:
    with pytest.raises(AuthFailed, match=r"provider: \{azure: \{subscription: \.\.\.\}\}"):
        _ = calls(desk, subscription="").subscription


# ------------------------------------------------------------ parts


def identity(desk: Desk, name: str) -> Principal:
    """One of the machine's own."""
    principal = Principal(name, f"oid-of-{name}", f"client-of-{name}")
    desk.cloud.tokens.identities[f"{IDENTITIES}/{name}".lower()] = principal
    desk.cloud.tokens.attached.append(f"{IDENTITIES}/{name}")
    return principal


def certificate(file: Path) -> str:
    """One of an application's own making, with its key in the file; the PEM that the application is told."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ci")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    made = built.not_valid_after(now + datetime.timedelta(days=30)).sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_text(private.decode() + pem)
    return pem
