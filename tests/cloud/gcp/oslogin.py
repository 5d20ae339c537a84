"""OS Login: profiles with POSIX accounts and keys, and who gets into a machine by them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from werkzeug.wrappers import Request, Response

from tests.cloud.gcp.schema import document
from tests.cloud.gcp.services import Call, Service, Services
from tests.cloud.gcp.tokens import Tokens
from tests.cloud.gcp.world import Principal, Refusal, World

USERINFO = "openidconnect.googleapis.com"
ADMIN_LOGIN = "compute.instances.osAdminLogin"
_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+( \S.*)?")
_COMPUTE = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/compute")


class OsLogin:
    def __init__(self, world: World, tokens: Tokens) -> None:
        self._world, self._tokens = world, tokens
        self._keys: dict[str, dict[str, dict[str, Any]]] = {}  # e-mail address -> fingerprint -> key

    def install(self, services: Services) -> None:
        services.add(Service(document("oslogin.v1"), {
            "oslogin.users.getLoginProfile": lambda call: self._profile(self._own(call, call.path["name"])),
            "oslogin.users.importSshPublicKey": self._import,
            "oslogin.users.sshPublicKeys.delete": self._delete,
        }, scopes=_COMPUTE))  # fmt: skip
        services.add_plain(USERINFO, self._userinfo)

    # ------------------------------------------------------------ the truth

    def keys(self) -> list[str]:
        """Of all profiles."""
        return [f"users/{email}/sshPublicKeys/{name}" for email, keys in self._keys.items() for name in keys]

    def let_in(self, instance_key: str) -> tuple[str, str]:
        """(POSIX name, authorized keys) of the first who may log in to that instance and become root."""
        for email, keys in self._keys.items():
            if keys and self._world.permitted(Principal(email), ADMIN_LOGIN, instance_key):
                return self.name_of(email), "".join(f"{row['key']}\n" for row in keys.values())
        return "nobody-may", ""

    def name_of(self, email: str) -> str:
        account = self._world.accounts.get(email)
        return f"sa_{account.unique_id}" if account else re.sub(r"[^a-z0-9]", "_", email.lower())[:32]

    # ------------------------------------------------------------ calls

    def _own(self, call: Call, name: str) -> str:
        email = name.split("/")[1]
        if email != call.principal.email:
            raise Refusal(403, "forbidden", "The caller does not have permission", status="PERMISSION_DENIED")
        return email

    def _profile(self, email: str) -> dict[str, Any]:
        name = self.name_of(email)
        account = {
            "primary": True, "username": name, "uid": "1001", "gid": "1001", "homeDirectory": f"/home/{name}",
            "operatingSystemType": "LINUX", "name": f"users/{email}/projects/p", "accountId": "p",
        }  # fmt: skip
        keys = self._keys.get(email, {})
        return {"name": f"users/{email}", "posixAccounts": [account], **({"sshPublicKeys": keys} if keys else {})}

    def _import(self, call: Call) -> dict[str, Any]:
        email, key = self._own(call, call.path["parent"]), call.body.get("key", "")
        if not _KEY.fullmatch(key):
            raise Refusal(400, "badRequest", "Invalid SSH public key.", status="INVALID_ARGUMENT")
        fingerprint = hashlib.sha256(" ".join(key.split()[:2]).encode()).hexdigest()
        row = {"key": key, "fingerprint": fingerprint, "name": f"users/{email}/sshPublicKeys/{fingerprint}"}
        self._keys.setdefault(email, {})[fingerprint] = row
        return {"loginProfile": self._profile(email)}

    def _delete(self, call: Call) -> dict[str, Any]:
        email, fingerprint = self._own(call, call.path["name"]), call.path["name"].rpartition("/")[2]
        if self._keys.get(email, {}).pop(fingerprint, None) is None:
            raise Refusal(404, "notFound", "Requested entity was not found.", status="NOT_FOUND")
        return {}

    def _userinfo(self, request: Request, path: str) -> Response:
        """Whose a token is."""
        if path != "/v1/userinfo":
            return Response("Not found", status=404)
        try:
            principal = self._tokens.principal(request.headers.get("Authorization", ""))
        except Refusal:
            return Response(json.dumps({"error": "invalid_request"}), status=401, content_type="application/json")
        return Response(json.dumps({"sub": "1", "email": principal.email}), content_type="application/json")
