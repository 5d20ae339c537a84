"""Who may what: service accounts, roles and policies as IAM and the Resource Manager keep them, and the tokens of accounts
that somebody acts as. Policies are asked for each call of every service (`World.policy`)."""

from __future__ import annotations

import base64
import datetime
import itertools
import json
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.cloud.gcp import conditions as gcp_conditions
from tests.cloud.gcp.schema import document
from tests.cloud.gcp.services import Call, Service, Services
from tests.cloud.gcp.tokens import Account, Tokens
from tests.cloud.gcp.world import PROJECT, PROJECT_NUMBER, Principal, Refusal, World

Policy = dict[str, Any]
MOST_ACCOUNTS = 100  # of a project, unless more are asked for
_ACCOUNT_ID = re.compile(r"[a-z](?:[-a-z0-9]{4,28}[a-z0-9])")
_PREDEFINED = {
    "roles/iam.serviceAccountUser": {
        "iam.serviceAccounts.actAs",
        "iam.serviceAccounts.get",
        "iam.serviceAccounts.list",
    },
    "roles/iam.serviceAccountTokenCreator": {"iam.serviceAccounts.getAccessToken"},
    "roles/iap.tunnelResourceAccessor": {"iap.tunnelInstances.accessViaIAP"},
    "roles/compute.osAdminLogin": {
        "compute.instances.osAdminLogin",
        "compute.instances.osLogin",
        "compute.instances.get",
    },
}
OWNER = "roles/owner"
_PLATFORM = ("https://www.googleapis.com/auth/cloud-platform",)


def no_right(permission: str, resource: str) -> Refusal:
    """As IAM and the Resource Manager say it."""
    service = "cloudresourcemanager" if permission.startswith("resourcemanager") else permission.partition(".")[0]
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED",
        "domain": f"{service}.googleapis.com", "metadata": {"permission": permission, "resource": resource},
    }  # fmt: skip
    message = (
        f"Permission '{permission}' denied on resource '//{service}.googleapis.com/{resource}' (or it may not exist)."
    )
    return Refusal(403, "forbidden", message, status="PERMISSION_DENIED", details=[info])


class Rights:
    """The truth, which tests read: `roles` (custom ones, by name), `policies` (by resource), and the world's accounts."""

    def __init__(self, world: World, tokens: Tokens) -> None:
        self.world, self._tokens = world, tokens
        self.roles: dict[str, dict[str, Any]] = {}
        self.descriptions: dict[str, str] = {}  # e-mail address -> of the account
        self.policies: dict[str, Policy] = {}
        self.projects = {PROJECT}
        self.made: set[str] = set()  # e-mail addresses of accounts that somebody made by a call
        self.organisation: dict[str, list[dict[str, Any]]] = {}  # constraint -> the rules in force: see gcp_project
        self._modified = threading.local()
        self._numbers = itertools.count(1)
        world.policy = self.permits

    def install(self, services: Services) -> None:
        services.add(Service(document("iam.v1"), self._iam()))
        services.add(Service(document("cloudresourcemanager.v3"), self._resource_manager()))
        scopes = (*_PLATFORM, "https://www.googleapis.com/auth/iam")  # the latter is what google-auth asks for
        services.add(Service(document("iamcredentials.v1"), {_TOKEN: self._access_token}, scopes=scopes))

    # ------------------------------------------------------------ for tests

    def grant(self, email: str, role: str, resource: str = f"projects/{PROJECT}", condition: str = "") -> None:
        """`role`: a predefined one, or a custom one by its full name."""
        more = {"condition": {"title": "a test's", "expression": condition}} if condition else {}
        binding = {"role": role, "members": [_member(email)], **more}
        self._set(resource, {**self.policy(resource), "bindings": [*self.policy(resource)["bindings"], binding]})

    def allow(
        self, email: str, permissions: Iterable[str], condition: str = "", resource: str = f"projects/{PROJECT}"
    ) -> None:
        """A role of its own with these."""
        name = f"projects/{PROJECT}/roles/test_{next(self._numbers)}"
        self.roles[name] = {"name": name, "title": "a test's", "includedPermissions": sorted(permissions)}
        self.grant(email, name, resource, condition)

    def leftovers(self) -> list[str]:
        """Accounts that somebody made, and bindings of such accounts that are gone."""
        alive = [f"serviceAccounts/{email}" for email in self.made & self.world.accounts.keys()]
        bound = {m for policy in self.policies.values() for b in policy["bindings"] for m in b["members"]}
        return [*alive, *(m for m in bound if m.startswith("deleted:"))]

    def members(self, role: str, resource: str = f"projects/{PROJECT}") -> list[str]:
        return [one for b in self.policy(resource)["bindings"] if b["role"] == role for one in b["members"]]

    def policy(self, resource: str) -> Policy:
        return self.policies.setdefault(resource, {"version": 1, "bindings": [], "etag": _etag({})})

    # ------------------------------------------------------------ who may what

    def permits(self, principal: Principal, permission: str, resource: str) -> bool:
        """A policy of the project holds for all that is in it, an account's own for that account."""
        modified = getattr(self._modified, "roles", ())
        project = "/".join(resource.split("/")[:2]) if resource else f"projects/{PROJECT}"
        if permission.startswith("compute.images.") and project.partition("/")[2] not in self.projects:
            return True  # those of Google's own are for everybody to read
        for holder in {project, resource if "/serviceAccounts/" in resource else project}:
            for binding in self.policy(holder)["bindings"]:
                if _member(principal.email) not in binding["members"] or not self._has(binding["role"], permission):
                    continue
                condition = binding.get("condition")
                if condition is None or gcp_conditions.holds(condition["expression"], resource, modified):
                    return True
        return False

    def _has(self, role: str, permission: str) -> bool:
        custom = self.roles.get(role)
        if custom is not None:
            return not custom.get("deleted") and permission in custom.get("includedPermissions", ())
        return role == OWNER or permission in _PREDEFINED.get(role, ())

    def _need(self, call: Call, permission: str, resource: str) -> None:
        try:
            call.need(permission, resource)
        except Refusal:
            raise no_right(permission, resource) from None

    # ------------------------------------------------------------ policies

    def _get_policy(self, permission: str) -> Callable[[Call], dict[str, Any]]:
        def get(call: Call) -> dict[str, Any]:
            resource = self._resource(call.path["resource"])
            self._need(call, permission, resource)
            policy = self.policy(resource)
            options = call.body.get("options", {}).get("requestedPolicyVersion") or 0
            version = options or call.query.get("options.requestedPolicyVersion") or 1
            if version >= 3:
                return policy
            shown = [{k: v for k, v in b.items() if k != "condition"} for b in policy["bindings"]]
            return {**policy, "version": 1, "bindings": shown}

        return get

    def _set_policy(self, permission: str) -> Callable[[Call], dict[str, Any]]:
        def change(call: Call) -> dict[str, Any]:
            resource, wanted = self._resource(call.path["resource"]), call.body["policy"]
            before = self.policy(resource)
            self._modified.roles = _modified(before, wanted)
            try:
                call.need(permission, resource)
            except Refusal:
                raise Refusal(403, "forbidden", "Policy update access denied.", status="PERMISSION_DENIED") from None
            finally:
                self._modified.roles = ()
            if wanted.get("etag") and wanted["etag"] != before["etag"]:
                raise _changed_meanwhile()
            self._check(before, wanted)
            return self._set(resource, wanted)

        return change

    def _set(self, resource: str, wanted: Policy) -> Policy:
        bindings = [b for b in wanted.get("bindings", ()) if b.get("members")]
        version = 3 if any("condition" in b for b in bindings) else 1
        self.policies[resource] = {
            "version": version, "bindings": bindings, "etag": _etag([bindings, next(self._numbers)]),
        }  # fmt: skip
        return self.policies[resource]

    def _check(self, before: Policy, wanted: Policy) -> None:
        conditional = any("condition" in b for p in (before, wanted) for b in p.get("bindings", ()))
        if conditional and wanted.get("version") != 3:
            raise _bad(
                "Specified policy.version must be 3: the policy has conditional role bindings, or had some before."
            )
        for binding in wanted.get("bindings", ()):
            role = binding.get("role", "")
            if not (role in self.roles or role in _PREDEFINED or role == OWNER) or self.roles.get(role, {}).get(
                "deleted"
            ):
                raise _bad(f"Role {role} is not supported for this resource.")
            for member in binding.get("members", ()):
                self._check_member(member)
            if "condition" in binding:
                try:
                    gcp_conditions.compiled(binding["condition"]["expression"])
                except ValueError as error:
                    raise _bad(f"Condition expression compilation failed. {error}") from None

    def _check_member(self, member: str) -> None:
        kind, _, email = member.partition(":")
        if kind == "serviceAccount" and email not in self.world.accounts:
            raise _bad(f"Service account {email} does not exist.")

    def _test(self, call: Call) -> dict[str, Any]:
        """What the caller may of a list."""
        resource = self._resource(call.path["resource"])
        asked = call.body.get("permissions") or []
        if len(asked) > 100:
            raise _bad("The number of permissions is over the limit of 100.")
        if any("*" in permission for permission in asked):
            raise _bad("Permissions with wildcards (such as '*') are not allowed.")
        held = [p for p in asked if self.world.permitted(call.principal, p, resource)]
        return {"permissions": held} if held else {}

    def _resource(self, name: str) -> str:
        """As policies are kept by: with the project's id, and the account's e-mail address."""
        parts = name.split("/")
        if parts[1] in (PROJECT_NUMBER, "-"):
            parts[1] = PROJECT
        if parts[1] not in self.projects or parts[1] in self.world.closed_projects:
            raise Refusal(403, "forbidden", "The caller does not have permission", status="PERMISSION_DENIED")
        if len(parts) == 4 and parts[3] not in self.world.accounts:
            raise _unknown_account()
        return "/".join(parts)

    # ------------------------------------------------------------ projects

    def _resource_manager(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        prefix, rights = "cloudresourcemanager.projects", "resourcemanager.projects"
        return {
            f"{prefix}.get": self._project,
            f"{prefix}.testIamPermissions": self._test,
            f"{prefix}.getIamPolicy": self._get_policy(f"{rights}.getIamPolicy"),
            f"{prefix}.setIamPolicy": self._set_policy(f"{rights}.setIamPolicy"),
        }

    def _project(self, call: Call) -> dict[str, Any]:
        resource = self._resource(call.path["name"])
        self._need(call, "resourcemanager.projects.get", resource)
        return {
            "name": f"projects/{PROJECT_NUMBER}",
            "projectId": PROJECT,
            "state": "ACTIVE",
            "displayName": "a test's",
        }

    # ------------------------------------------------------------ accounts

    def _iam(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        accounts, roles, rights = "iam.projects.serviceAccounts", "iam.projects.roles", "iam.serviceAccounts"
        return {
            f"{accounts}.create": self._create,
            f"{accounts}.get": lambda call: self._shown(self._account(call, "get")),
            f"{accounts}.list": self._list,
            f"{accounts}.delete": self._delete,
            f"{accounts}.testIamPermissions": self._test,
            f"{accounts}.getIamPolicy": self._get_policy(f"{rights}.getIamPolicy"),
            f"{accounts}.setIamPolicy": self._set_policy(f"{rights}.setIamPolicy"),
            f"{roles}.create": self._create_role,
            f"{roles}.get": self._get_role,
            f"{roles}.patch": self._patch_role,
            f"{roles}.delete": self._delete_role,
            f"{roles}.undelete": self._undelete_role,
        }

    def _create(self, call: Call) -> dict[str, Any]:
        self._need(call, "iam.serviceAccounts.create", f"projects/{PROJECT}")
        name, wanted = call.body.get("accountId", ""), call.body.get("serviceAccount", {})
        if not _ACCOUNT_ID.fullmatch(name):
            raise _bad(
                "The account ID does not have a length between 6 and 30, or has characters that are not allowed."
            )
        if len(wanted.get("displayName", "")) > 100 or len(wanted.get("description", "")) > 256:
            raise _bad("The display name or the description is too long.")
        if self.organisation.get(_NO_ACCOUNTS) == [{"enforce": True}]:
            raise _no_accounts()
        email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
        if email in self.world.accounts:
            message = f"Service account {name} already exists within project projects/{PROJECT}."
            raise Refusal(409, "alreadyExists", message, status="ALREADY_EXISTS")
        if len(self.world.accounts) >= MOST_ACCOUNTS:
            raise Refusal(429, "rateLimitExceeded", "Maximum number of service accounts on project reached.",
                          status="RESOURCE_EXHAUSTED")  # fmt: skip
        number = str(10**20 + zlib.crc32(f"{email}{next(self._numbers)}".encode()))
        self.world.accounts[email] = Account(email, number, PROJECT, wanted.get("displayName", ""))
        self.world.accounts[email].known_from = self.world.clock() + self.world.iam_delay
        self.descriptions[email] = wanted.get("description", "")
        self.made.add(email)
        return self._shown(self.world.accounts[email])

    def _account(self, call: Call, verb: str) -> Account:
        email = call.path["name"].rpartition("/")[2]
        self._need(call, f"iam.serviceAccounts.{verb}", f"projects/{PROJECT}/serviceAccounts/{email}")
        account = self.world.accounts.get(email)
        if account is None:
            raise _unknown_account()
        return account

    def _shown(self, account: Account) -> dict[str, Any]:
        shown = {
            "name": f"projects/{account.project}/serviceAccounts/{account.email}", "projectId": account.project,
            "uniqueId": account.unique_id, "email": account.email, "displayName": account.display_name,
            "description": self.descriptions.get(account.email, ""), "etag": _etag(account.email),
        }  # fmt: skip
        return {key: value for key, value in shown.items() if value}

    def _list(self, call: Call) -> dict[str, Any]:
        self._need(call, "iam.serviceAccounts.list", f"projects/{PROJECT}")
        size = min(int(call.query.get("pageSize") or 20), 100, self.world.page_size)
        emails, start = sorted(self.world.accounts), int(call.query.get("pageToken") or 0)
        shown = [self._shown(self.world.accounts[email]) for email in emails[start : start + size]]
        more = {"nextPageToken": str(start + size)} if start + size < len(emails) else {}
        return {**({"accounts": shown} if shown else {}), **more}

    def _delete(self, call: Call) -> dict[str, Any]:
        account = self._account(call, "delete")
        del self.world.accounts[account.email]
        self.policies.pop(f"projects/{PROJECT}/serviceAccounts/{account.email}", None)
        gone = {_member(account.email): f"deleted:serviceAccount:{account.email}?uid={account.unique_id}"}
        for policy in self.policies.values():
            for binding in policy["bindings"]:
                binding["members"] = [gone.get(member, member) for member in binding["members"]]
        return {}

    def _access_token(self, call: Call) -> dict[str, Any]:
        email = call.path["name"].rpartition("/")[2]
        resource = f"projects/{PROJECT}/serviceAccounts/{email}"
        self._need(call, "iam.serviceAccounts.getAccessToken", resource)
        if email not in self.world.accounts:
            raise _unknown_account()
        token, seconds = self._tokens.issue(email, tuple(call.body.get("scope") or _PLATFORM))
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
        return {"accessToken": token, "expireTime": until.strftime("%Y-%m-%dT%H:%M:%SZ")}

    # ------------------------------------------------------------ roles

    def _create_role(self, call: Call) -> dict[str, Any]:
        self._need(call, "iam.roles.create", f"projects/{PROJECT}")
        name = f"projects/{PROJECT}/roles/{call.body.get('roleId', '')}"
        if not re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", call.body.get("roleId", "")):
            raise _bad("The role_id is not valid.")
        if name in self.roles:
            message = f"A role named {call.body['roleId']} in projects/{PROJECT} already exists."
            raise Refusal(409, "alreadyExists", message, status="ALREADY_EXISTS")
        wanted = call.body.get("role", {})
        if len(wanted.get("title", "")) > 100 or len(wanted.get("description", "")) > 300:
            raise _bad("The title or the description of the role is too long.")
        self.roles[name] = {"name": name, **wanted, "etag": _etag(name)}
        return self.roles[name]

    def _role(self, call: Call, permission: str) -> dict[str, Any]:
        name = call.path["name"].replace(f"projects/{PROJECT_NUMBER}/", f"projects/{PROJECT}/")
        self._need(call, permission, f"projects/{PROJECT}")
        if name not in self.roles:
            raise Refusal(404, "notFound", f"The role named {name} was not found.", status="NOT_FOUND")
        return self.roles[name]

    def _get_role(self, call: Call) -> dict[str, Any]:
        return self._role(call, "iam.roles.get")

    def _patch_role(self, call: Call) -> dict[str, Any]:
        role, masked = self._role(call, "iam.roles.update"), str(call.query.get("updateMask") or "")
        if role.get("deleted"):
            raise _bad(f"You can't update the role {role['name']}, which is deleted.", "FAILED_PRECONDITION")
        role.update({key: value for key, value in call.body.items() if not masked or key in masked.split(",")})
        return role

    def _delete_role(self, call: Call) -> dict[str, Any]:
        role = self._role(call, "iam.roles.delete")
        role["deleted"] = True
        return role

    def _undelete_role(self, call: Call) -> dict[str, Any]:
        role = self._role(call, "iam.roles.undelete")
        role.pop("deleted", None)
        return role


_NO_ACCOUNTS = "constraints/iam.disableServiceAccountCreation"
_TOKEN = "iamcredentials.projects.serviceAccounts.generateAccessToken"


def _member(email: str) -> str:
    if email.startswith("principal://"):
        return email
    return f"{'serviceAccount' if email.endswith('.gserviceaccount.com') else 'user'}:{email}"


def _modified(before: Policy, after: Policy) -> set[str]:
    """Roles that somebody gets or loses."""

    def given(policy: Mapping[str, Any]) -> set[tuple[str, str, str]]:
        return {
            (b["role"], member, json.dumps(b.get("condition"), sort_keys=True))
            for b in policy.get("bindings", ())
            for member in b.get("members", ())
        }

    return {role for role, _, _ in given(before) ^ given(after)}


def _etag(of: Any) -> str:
    return base64.b64encode(zlib.crc32(json.dumps(of, sort_keys=True).encode()).to_bytes(8, "big")).decode()


def _bad(message: str, status: str = "INVALID_ARGUMENT") -> Refusal:
    return Refusal(400, "badRequest", message, status=status)


def _changed_meanwhile() -> Refusal:
    told = "Please retry the whole read-modify-write with exponential backoff."
    return Refusal(409, "aborted", f"There were concurrent policy changes. {told}", status="ABORTED")


def _no_accounts() -> Refusal:
    violation = {"type": _NO_ACCOUNTS, "subject": f"projects/{PROJECT}"}
    detail = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}
    message = "Service account creation is not allowed on this project."
    return Refusal(400, "failedPrecondition", message, status="FAILED_PRECONDITION", details=[detail])


def _unknown_account() -> Refusal:
    return Refusal(404, "notFound", "Unknown service account", status="NOT_FOUND")
