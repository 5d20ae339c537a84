"""As whom Google Cloud is called: what google-auth finds on this machine (the environment, a key file, workload-identity
federation, gcloud's own login, the metadata server of an instance), and the service account that the settings say to act as.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from clusterctl_providers.gcp.errors import typed

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def find_login(settings: Mapping[str, Any]) -> tuple[Any, str]:
    """(google-auth's credentials, the project that goes with them or ""). Raises ProviderError, with what to do."""
    # Read when google.auth is imported. Whoever has no credentials, and no metadata server, would wait for three tries each time.
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    from google.auth import default, impersonated_credentials
    from google.auth.credentials import with_scopes_if_required

    project = str(settings.get("project") or "")
    try:
        # with scopes, a federated login asks Google for its project, whether anybody wants to know it or not
        credentials, found = default(scopes=None if project else [SCOPE])
        credentials = with_scopes_if_required(credentials, [SCOPE])
    except Exception as error:
        raise typed(error, "finding Google Cloud credentials", project) from error
    email = str(settings.get("impersonate") or "")
    if email:
        credentials = impersonated_credentials.Credentials(
            credentials, email, [SCOPE], iam_endpoint_override=_token_maker(settings, email)
        )
    if settings.get("endpoint_url"):
        ask_nobody_else(credentials)
    return credentials, str(found or "")


def ask_nobody_else(credentials: Any) -> None:
    """google-auth asks Google itself, beside whatever it is told to call, where an account may be used from. Nothing of that is
    meant for who has another endpoint."""
    for each in (credentials, getattr(credentials, "_source_credentials", None)):
        if each is not None:
            each._is_regional_access_boundary_lookup_required = lambda: False


def access_token(settings: Mapping[str, Any], what: str) -> tuple[str, str]:
    """(a token that is good for some minutes at least, the project); for who speaks another protocol than REST. Raises
    ProviderError."""
    from google.auth.transport.requests import Request

    credentials, found = find_login(settings)
    project = str(settings.get("project") or "") or found
    try:
        credentials.refresh(Request())
    except Exception as error:
        raise typed(error, what, project) from error
    return str(credentials.token), project


def name_of(credentials: Any) -> str:
    """Who that is: the e-mail address where google-auth knows it, else what sort of login it is."""
    for attribute in ("service_account_email", "signer_email", "account"):
        value = getattr(credentials, attribute, None)
        if isinstance(value, str) and "@" in value:
            return value
    kind = type(credentials).__module__.rpartition(".")[2]
    return {
        "credentials": "whoever is logged in with `gcloud auth application-default login`",
        "compute_engine": "this instance's service account",
    }.get(kind, "an identity of another provider (workload-identity federation)")


def _token_maker(settings: Mapping[str, Any], email: str) -> str | None:
    """Where tokens of that account are made, with another endpoint than Google's own."""
    endpoint = str(settings.get("endpoint_url") or "").rstrip("/")
    if not endpoint:
        return None
    return f"{endpoint}/iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
