"""As whom Google Cloud is called: every sort of login works, and each that does not is told with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusterctl_providers.gcp.calls import Calls
from clusterctl_providers.gcp.login import access_token, name_of

from clusterctl.core.errors import AuthFailed, BadRequest, UnknownOutcome
from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.federation import AUDIENCE, POOL
from tests.cloud.gcp.world import PROJECT, REGION

ZONES = "compute.zones.list"
WHAT = "listing zones"
USER = {"type": "authorized_user", "client_id": "x", "client_secret": "y", "refresh_token": "z"}


def calls(cloud: GcpCloud, **settings: Any) -> Calls:
    return Calls(
        {"project": PROJECT, "region": REGION, "endpoint_url": cloud.url, "calls_per_second": 500.0, **settings}
    )


def told(cloud: GcpCloud, kind: type[Exception] = AuthFailed, **settings: Any) -> str:
    with pytest.raises(kind) as caught:
        calls(cloud, **settings).get("zones", WHAT)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.fixture
def federated(cloud: GcpCloud, tmp_path: Path) -> Iterator[Path]:
    """The file with another provider's token, of which the configuration in the environment speaks."""
    cloud.add_account("ci", ZONES)
    email = f"ci@{PROJECT}.iam.gserviceaccount.com"
    token = tmp_path / "token"
    token.write_text("another's word")
    configuration = {
        "type": "external_account", "audience": AUDIENCE, "token_url": f"{cloud.url}/sts.googleapis.com/v1/token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": {"file": str(token)},
        "service_account_impersonation_url": (
            f"{cloud.url}/iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
        ),
    }  # fmt: skip
    cloud.federation.believed["another's word"] = "repo:me/mine"
    cloud.rights.grant(
        f"principal://iam.googleapis.com/{POOL}/subject/repo:me/mine", "roles/iam.serviceAccountTokenCreator"
    )
    with cloud.credentials(configuration):
        yield token


def test_a_key_file_is_a_login_that_knows_its_project(cloud: GcpCloud) -> None:
    with cloud.credentials(cloud.add_account("who", ZONES)):
        ours = calls(cloud, project="")
        assert ours.get("zones", WHAT)["items"] and ours.project == PROJECT
        assert ours.caller == f"who@{PROJECT}.iam.gserviceaccount.com"


def test_another_providers_word_is_a_login(cloud: GcpCloud, federated: Path) -> None:
    ours = calls(cloud)
    assert ours.get("zones", WHAT)["items"]
    assert ours.caller == f"ci@{PROJECT}.iam.gserviceaccount.com"
    assert {email for email, permission in cloud.world.called_by if permission == ZONES} == {ours.caller}


def test_what_the_pool_does_not_believe_is_told_as_that(cloud: GcpCloud, federated: Path) -> None:
    cloud.federation.believed.clear()
    said = told(cloud)
    assert "stale to sign-in" in said and "identity pool" in said and "gcloud auth" not in said
    federated.unlink()
    assert "what writes that file has not run" in told(cloud)


def test_another_account_is_acted_as_where_the_settings_say_so(cloud: GcpCloud) -> None:
    cloud.add_account("deployer", ZONES)
    email = f"deployer@{PROJECT}.iam.gserviceaccount.com"
    with cloud.credentials(cloud.add_account("who", "compute.regions.get")):
        said = told(cloud, impersonate=email)
        assert "iam.serviceAccounts.getAccessToken" in said and "roles/iam.serviceAccountTokenCreator" in said
        cloud.rights.grant(f"who@{PROJECT}.iam.gserviceaccount.com", "roles/iam.serviceAccountTokenCreator")
        ours = calls(cloud, impersonate=email)
        assert ours.get("zones", WHAT)["items"] and ours.caller == email


def test_a_machine_without_any_login_is_told_how_to_get_one(cloud: GcpCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    assert "`gcloud auth application-default login`" in told(cloud)


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"type": "service_account"}), json.dumps({"type": "what"})])
def test_a_key_file_that_is_not_whole_is_told(
    cloud: GcpCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    file = tmp_path / "key.json"
    file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert "key.json" in told(cloud)


def test_a_key_file_that_is_not_there_is_told(cloud: GcpCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    assert "/nowhere/key.json" in told(cloud)


def test_a_key_whose_account_is_gone_or_disabled_is_told(cloud: GcpCloud) -> None:
    key = cloud.add_account("who", ZONES)
    with cloud.credentials(key):
        cloud.world.accounts[key["client_email"]].disabled = True
        assert "gone or disabled" in told(cloud)
        del cloud.world.accounts[key["client_email"]]
        assert "gone or disabled" in told(cloud)


def test_a_clock_that_is_wrong_is_told_as_that(cloud: GcpCloud) -> None:
    cloud.world.clock_offset = 3 * 3600.0
    assert "this machine's clock is wrong" in told(cloud)


def test_a_login_that_lapsed_is_taken_up_again_when_it_is_renewed(cloud: GcpCloud) -> None:
    ours = calls(cloud)
    ours.get("zones", WHAT)
    cloud.world.lapsed = True
    with pytest.raises(AuthFailed):
        ours.get("zones", WHAT)
    cloud.world.lapsed = False
    assert ours.get("zones", WHAT)["items"], "without a restart"


def test_a_login_service_that_is_away_is_no_fault_of_the_credentials(cloud: GcpCloud) -> None:
    key = {**cloud.add_account("who", ZONES), "token_uri": "http://127.0.0.1:9/token"}
    with cloud.credentials(key):
        told(cloud, UnknownOutcome)


def test_a_users_login_says_what_it_is_and_is_asked_to_be_renewed(
    cloud: GcpCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"{cloud.url}/oauth2.googleapis.com/token"
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", endpoint)
    with cloud.credentials({**cloud.tokens.add_user("ann@example.com"), "quota_project_id": PROJECT}):
        cloud.rights.grant("ann@example.com", "roles/owner")
        ours = calls(cloud)
        assert ours.get("zones", WHAT)["items"]
        assert ours.caller == "whoever is logged in with `gcloud auth application-default login`"
    with cloud.credentials(USER):
        assert "the login has expired or was withdrawn: `gcloud auth application-default login`" in told(cloud)


def test_no_project_at_all_is_told_with_its_place_in_the_file(cloud: GcpCloud) -> None:
    key = cloud.add_account("who", ZONES)
    del key["project_id"]
    with cloud.credentials(key), pytest.raises(BadRequest, match=r"provider: \{gcp: \{project: my-project\}\}"):
        _ = calls(cloud, project="").project


def test_a_token_for_another_protocol_is_a_fresh_one(cloud: GcpCloud) -> None:
    token, project = access_token({"endpoint_url": cloud.url}, "tunnelling")
    assert cloud.tokens.principal(f"Bearer {token}").email.startswith("admin@") and project == PROJECT


def test_an_identity_that_does_not_know_its_name_has_a_description() -> None:
    class Credentials:
        account = ""

    assert "workload-identity federation" in name_of(Credentials())
