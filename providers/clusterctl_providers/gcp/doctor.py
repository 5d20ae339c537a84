"""What `clusterctl doctor` asks Google Cloud: who we are, which APIs are on, each permission by name, who pays, and what the
network and the organisation put in the way. Nothing is changed by asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clusterctl.core.errors import AuthFailed, ProviderError
from clusterctl_providers.cloud.doctor import Check, Rows, permission_rows
from clusterctl_providers.cloud.doctor import examine as examine_all
from clusterctl_providers.gcp.calls import Calls, last_part, relative
from clusterctl_providers.gcp.errors import CONSOLE, DISABLED, reason_behind, status_behind
from clusterctl_providers.gcp.rights.constraints import constraint_rows
from clusterctl_providers.gcp.rights.identity import AUTO
from clusterctl_providers.gcp.roles import permissions_of, role_id

ACT_AS = "iam.serviceAccounts.actAs"
USUAL = (
    ("e2-standard-2", "on-demand"),
    ("g2-standard-4", "on-demand"),
    ("g2-standard-4", "spot"),
)  # whose quotas are looked up
MOST_ASKED = 100  # permissions in one question
OPTIONAL = frozenset(
    {"orgpolicy.policy.get", "serviceusage.services.get", "resourcemanager.projects.get"}
)  # looking, here only
_NETWORKS = ("compute.firewalls.", "compute.networks.", "compute.subnetworks.")
_TAGGED = ("compute.firewalls.", "compute.networks.updatePolicy")  # not needed where the user's own rules hold
_EVERYBODY = frozenset({"0.0.0.0/0", "::/0"})


def examine(calls: Calls, settings: Mapping[str, Any], quotas: Callable[[], Rows], *, accounts: bool) -> list[Check]:
    """(what was checked, ok, what to do). Stops at the credentials when Google does not know them. `accounts`: whether
    clusterctl makes service accounts of the cluster's machines. `quotas`: the rows about them."""
    asked = _Asked(calls, settings, accounts)
    return examine_all(
        "Google Cloud",
        asked.who,
        asked.services,
        asked.permissions,
        asked.billing,
        asked.network,
        asked.policies,
        quotas,
    )


class _Asked:
    def __init__(self, calls: Calls, settings: Mapping[str, Any], accounts: bool) -> None:
        self._calls, self._settings, self._accounts = calls, settings, accounts

    def who(self) -> str:
        """Any answer about the project shows that the credentials are good; what it says is for the rows that follow. Of a
        project that one may not see Google says the same as of one that is not there."""
        project = self._calls.project
        what = f"asking Google Cloud for the project {project}"
        try:
            self._calls.get(f"projects/{project}", what)
        except AuthFailed as error:
            if status_behind(error) != 403:
                raise
            self._see(project, what)
        return f"{self._calls.caller} in the project {project}, {self._calls.region}"

    def _see(self, project: str, what: str) -> None:
        try:
            self._held(f"projects/{project}", ["resourcemanager.projects.get"])
        except AuthFailed as error:
            if status_behind(error) != 403 or reason_behind(error) in DISABLED:
                return
            raise AuthFailed(
                f"{what}: there is none of that id, or {self._calls.caller} may not see it; mend `project` of `provider: {{gcp: "
                "...}}` (`gcloud projects list` names yours)"
            ) from error.__cause__

    # ------------------------------------------------------------ APIs

    def services(self) -> Iterator[Check]:
        wanted = self._services()
        project = self._calls.project
        names = [f"projects/{project}/services/{service}.googleapis.com" for service in wanted]
        what = "asking which APIs are on"
        try:
            found = self._calls.get(f"v1/projects/{project}/services:batchGet", what, "serviceusage", names=names)
        except ProviderError as error:
            yield f"APIs: not to be looked up ({error})", True, ""
            return
        on = {last_part(str(row["name"])) for row in found.get("services") or () if row.get("state") == "ENABLED"}
        for name in (f"{service}.googleapis.com" for service in wanted):
            link = f"{CONSOLE}/apis/library/{name}?project={project}"
            yield (
                f"API {name}",
                name in on,
                f"enable it: `gcloud services enable {name} --project {project}`, or at {link}",
            )

    def _services(self) -> list[str]:
        wanted = ["compute"]
        if self._accounts:
            wanted += ["iam", "cloudresourcemanager"]
        if self._settings.get("reach") == "iap":
            wanted.append("iap")
        if self._settings.get("os_login"):
            wanted.append("oslogin")
        if self._settings.get("impersonate"):
            wanted.append("iamcredentials")
        return wanted

    # ------------------------------------------------------------ permissions

    def permissions(self) -> Iterator[Check]:
        for resource, wanted in self._wanted().items():
            try:
                held = self._held(resource, sorted(wanted))
            except ProviderError as error:
                yield f"way to look permissions up on {resource}", False, str(error)
                continue
            yield from permission_rows({self._on(p, resource): p in held for p in wanted}, self._fix)

    def _wanted(self) -> dict[str, set[str]]:
        """Resource -> what is needed on it: a network may be another project's, and an account that is named has a policy of
        its own."""
        own = f"projects/{self._calls.project}"
        wanted = set(permissions_of("client")) - OPTIONAL - {ACT_AS}
        named = [str(self._settings.get(key) or "") for key in ("service_account", "worker_service_account")]
        if self._accounts:
            wanted |= permissions_of("accounts") | {ACT_AS}
        if self._settings.get("reach") == "iap":
            wanted |= permissions_of("iap")
        if self._settings.get("os_login"):
            wanted |= permissions_of("oslogin")
        if self._settings.get("network_tags"):
            wanted = {p for p in wanted if not p.startswith(_TAGGED)}
        found = {own: wanted}
        host = self._network_project()
        if host != own:
            theirs = {p for p in wanted if p.startswith(_NETWORKS)}
            found = {own: wanted - theirs, host: theirs}
        for account in dict.fromkeys(name for name in named if "@" in name and name != AUTO):
            found[f"projects/-/serviceAccounts/{account}"] = {ACT_AS}
        return found

    def _network_project(self) -> str:
        """ "projects/P" of the network, which is another's where it is shared."""
        for key in ("subnet", "network"):
            link = relative(str(self._settings.get(key) or ""))
            if link.startswith("projects/"):
                return "/".join(link.split("/")[:2])
        return f"projects/{self._calls.project}"

    def _held(self, resource: str, wanted: list[str]) -> set[str]:
        version, service = ("v1", "iam") if "/serviceAccounts/" in resource else ("v3", "cloudresourcemanager")
        held: set[str] = set()
        for start in range(0, len(wanted), MOST_ASKED):
            body = {"permissions": wanted[start : start + MOST_ASKED]}
            path, what = f"{version}/{resource}:testIamPermissions", f"asking what we may do in {resource}"
            held |= set(self._calls.ask("POST", path, what, body, service).get("permissions") or ())
        return held

    def _on(self, permission: str, resource: str) -> str:
        if resource == f"projects/{self._calls.project}":
            return permission
        return f"{permission} on {last_part(resource)}"

    def _fix(self, named: str) -> str:
        """The role that has it; what is needed of `reach` and of accounts is in one of its own."""
        permission, _, place = named.partition(" on ")
        caller, project = self._calls.caller, self._calls.project
        if "@" in place:
            return f"{caller} lacks {ACT_AS} on {place}: give it roles/iam.serviceAccountUser on that service account"
        if permission in permissions_of("iap"):
            role, why = "iap", ", which `reach: iap` needs"
        elif permission in permissions_of("oslogin"):
            role, why = "oslogin", ", which `os_login` needs"
        elif permission in permissions_of("accounts"):
            role, why = (
                "accounts",
                ", which making the machines' service accounts needs (or name them: `service_account`)",
            )
        else:
            role, why = "client", ""
        where = place or project
        return (
            f"{caller} lacks the permission {permission} in {where}{why}: give it the role {role_id(role)}, which "
            f"`python -m clusterctl_providers.gcp.roles {role} --project {where}` prints (docs/gcp.md)"
        )

    # ------------------------------------------------------------ around

    def billing(self) -> Iterator[Check]:
        project = self._calls.project
        what = "asking who pays for the project"
        try:
            found = self._calls.get(f"v1/projects/{project}/billingInfo", what, "cloudbilling")
        except ProviderError as error:
            yield f"billing: not to be looked up ({error})", True, ""
            return
        link = f"{CONSOLE}/billing/linkedaccount?project={project}"
        yield "billing account of the project", bool(found.get("billingEnabled")), f"link one to the project: {link}"

    def network(self) -> Iterator[Check]:
        """Whether rules that are not ours let everybody reach port 22, as those of Google's `default` network do. A cluster's own
        rules overrule them; where it has none, because the user's hold, they count."""
        if self._settings.get("head_address"):
            return
        network = last_part(str(self._settings.get("network") or "default"))
        path = f"{self._network_project()}/global/firewalls"
        what = f"looking for firewall rules of the network {network}"
        try:
            rows = [row for page in self._calls.pages(path, what) for row in page.get("items") or ()]
        except ProviderError as error:
            yield f"firewall rules of the network {network}: not to be looked up ({error})", True, ""
            return
        own = {str(tag) for tag in self._settings.get("network_tags") or ()}
        wide = [
            str(r["name"]) for r in rows if last_part(str(r.get("network") or "")) == network and _opens_ssh(r, own)
        ]
        names = " ".join(wide)
        fix = f"it is open to everybody by {names}: `gcloud compute firewall-rules delete {names}`, or leave `network_tags` out"
        if own or not wide:
            yield f"port 22 in the network {network} closed to the world", not wide, fix
        else:
            yield (
                f"port 22 in the network {network}: open to the world by {names}, but not that of a cluster's machines",
                True,
                "",
            )

    def policies(self) -> Iterator[Check]:
        yield from constraint_rows(self._calls, self._settings, accounts=self._accounts)


def _opens_ssh(rule: Mapping[str, Any], tags: set[str]) -> bool:
    """To everybody, on all machines or on those with such tags."""
    if rule.get("direction", "INGRESS") != "INGRESS" or rule.get("disabled") or rule.get("targetServiceAccounts"):
        return False
    targets = set(rule.get("targetTags") or ())
    if (targets and not targets & tags) or not _EVERYBODY & set(rule.get("sourceRanges") or ()):
        return False
    return any(_has_port(one, 22) for one in rule.get("allowed") or ())


def _has_port(allowed: Mapping[str, Any], port: int) -> bool:
    if allowed.get("IPProtocol") not in ("tcp", "all", "6"):
        return False
    spans = [str(span).partition("-") for span in allowed.get("ports") or ()]
    return not spans or any(int(first) <= port <= int(last or first) for first, _, last in spans)
