"""As whom Azure is called: what azure-identity finds on this machine (the environment, a workload's or a machine's own
identity, the login of `az`), and in which subscription.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterctl_providers.azure.errors import typed

ENDPOINT = "https://management.azure.com"


def endpoint_of(settings: Mapping[str, Any]) -> str:
    """Where Azure Resource Manager is, without a slash at its end."""
    return str(settings.get("endpoint_url") or ENDPOINT).rstrip("/")


def find_subscription(settings: Mapping[str, Any]) -> str:
    """Its id: of the settings, the environment, or the one that `az` works in; "" where none of them says."""
    return str(settings.get("subscription") or "") or os.environ.get("AZURE_SUBSCRIPTION_ID", "") or _of_az()


def find_login(settings: Mapping[str, Any]) -> Any:
    """azure-identity's credential. Raises ProviderError, with what to do."""
    from azure.identity import DefaultAzureCredential

    tenant = str(settings.get("tenant") or "")
    try:
        return DefaultAzureCredential(
            exclude_interactive_browser_credential=True,
            disable_instance_discovery=bool(settings.get("endpoint_url")),
            **({"tenant_id": tenant} if tenant else {}),
        )
    except Exception as error:
        raise typed(error, "finding Azure credentials") from error


def access_token(credential: Any, settings: Mapping[str, Any]) -> str:
    """A token for Resource Manager that is good for some minutes at least; kept and renewed by azure-identity."""
    return str(credential.get_token(f"{endpoint_of(settings)}/.default").token)


def _of_az() -> str:
    home = Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure")
    try:
        profile = json.loads((home / "azureProfile.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return ""
    subscriptions = profile.get("subscriptions") or ()
    return next((str(each.get("id") or "") for each in subscriptions if each.get("isDefault")), "")
