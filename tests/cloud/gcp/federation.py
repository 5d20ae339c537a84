"""Workload-identity federation: the Security Token Service takes another provider's word for who somebody is."""

from __future__ import annotations

import json

from werkzeug.wrappers import Request, Response

from tests.cloud.gcp.services import Services
from tests.cloud.gcp.tokens import Tokens
from tests.cloud.gcp.world import PROJECT_NUMBER

HOST = "sts.googleapis.com"
POOL = f"projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/pool"
AUDIENCE = f"//iam.googleapis.com/{POOL}/providers/provider"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


class Federation:
    """`believed`: the other provider's token -> its subject."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.believed: dict[str, str] = {}

    def install(self, services: Services) -> None:
        services.add_plain(HOST, self.answer)

    def answer(self, request: Request, path: str) -> Response:
        form = request.form
        if path != "/v1/token" or form.get("grant_type") != _EXCHANGE:
            return Response("Not found", status=404)
        subject = self.believed.get(form.get("subject_token", ""))
        if form.get("audience") != AUDIENCE:
            return _error("invalid_target", 'The target service indicated by the "audience" parameters is invalid.')
        if subject is None:
            return _error("invalid_grant", "ID Token issued at 1700000000 is stale to sign-in.")
        token, seconds = self._tokens.issue(
            f"principal://iam.googleapis.com/{POOL}/subject/{subject}", tuple(form["scope"].split())
        )
        answer = {
            "access_token": token, "expires_in": seconds, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }  # fmt: skip
        return Response(json.dumps(answer), content_type="application/json; charset=UTF-8")


def _error(code: str, description: str) -> Response:
    text = json.dumps({"error": code, "error_description": description})
    return Response(text, status=400, content_type="application/json; charset=UTF-8")
