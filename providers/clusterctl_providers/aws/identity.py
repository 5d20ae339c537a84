"""The IAM roles of a cluster's machines: named by the user, else made for this cluster, and removed by `sweep`.

What is made lies under the path /clusterctl/REGION/UID/ and carries the cluster's tags, so that policies can be bound to
it and a role of another cluster is never touched. Every step may be repeated after a crash.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clusterctl_runtime.backoff import Backoff

from clusterctl.core.errors import AuthFailed, BadRequest, ProviderError
from clusterctl_providers.aws.calls import Calls
from clusterctl_providers.aws.errors import code_behind
from clusterctl_providers.aws.images import own_parameters
from clusterctl_providers.aws.policies import render_policy
from clusterctl_providers.base import TAG_CLUSTER, TAG_UID
from clusterctl_providers.cloud.calls import pages
from clusterctl_providers.cloud.listing import SETTLES
from clusterctl_providers.cloud.naming import made_name
from clusterctl_providers.cloud.removal import removed

log = logging.getLogger(__name__)

AUTO = "auto"  # worker_profile: make one
LONGEST_NAME = 64  # that IAM gives a role
LONGEST_CLUSTER = 37  # of them
_UNSEEN = re.compile(r"invalid iam instance profile", re.IGNORECASE)
_FORBIDDEN = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


class Identity:
    """Instance profiles by name or ARN, "" for none. `images`: those that the spec names. Thread-safe; asks IAM once per
    process."""

    def __init__(
        self,
        calls: Calls,
        settings: Mapping[str, Any],
        cluster: str,
        uid: str,
        images: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls, self._settings = calls, settings
        self._cluster, self._uid = cluster, uid
        self._parameters = own_parameters(images)  # the head's role has to read them
        self._clock, self._pause = clock, pause
        self._made: dict[str, str] = {}  # kind -> profile
        self._lock = threading.RLock()

    @property
    def path(self) -> str:
        return f"/clusterctl/{self._calls.region}/{self._uid}/"

    def name_of(self, kind: str) -> str:
        """The role and the instance profile of "head" or "worker" that are ours."""
        return made_name(self._cluster[:LONGEST_CLUSTER], self._uid, kind, longest=LONGEST_NAME)

    def head_profile(self) -> str:
        """The setting `instance_profile`, else one of the cluster's own, made where it is missing."""
        return str(self._settings.get("instance_profile") or "") or self._own("head")

    def worker_profile(self) -> str:
        """The setting `worker_profile`; with `auto` one of the cluster's own, which allows nothing until the user adds
        to it; else none."""
        given = str(self._settings.get("worker_profile") or "")
        return self._own("worker") if given == AUTO else given

    def is_ours(self, profile: str) -> bool:
        """By its name alone: AWS is not asked."""
        return profile in (self.name_of("head"), self.name_of("worker"))

    def renew(self) -> None:
        """What a running head needs of a client: it may write no policy of its own, nor make the workers' role."""
        if not self._settings.get("instance_profile") and not self._settings.get("head_address"):
            self.head_profile()
        self.worker_profile()

    # ------------------------------------------------------------ made

    def _own(self, kind: str) -> str:
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._ensure(kind)
            return self._made[kind]

    def _ensure(self, kind: str) -> str:
        """A worker's profile that is complete is left alone: the head may look at it, and not make it. The head's
        policy follows the spec, so it is written each time."""
        name = self.name_of(kind)
        profile = self._find("get_instance_profile", "InstanceProfile", InstanceProfileName=name)
        roles = [str(role["RoleName"]) for role in (profile or {}).get("Roles") or ()]
        if kind == "worker" and roles == [name]:
            return name
        policy = json.dumps(self._policy(kind), separators=(",", ":"))
        role = self._find("get_role", "Role", RoleName=name)
        if role is None:
            trust = json.dumps(self._policy("trust"))
            boundary = str(self._settings.get("permissions_boundary") or "")
            self._make(
                "create_role", f"the role {name}",
                RoleName=name, AssumeRolePolicyDocument=trust, **self._labels(),
                Description=f"{kind} of the clusterctl cluster {self._cluster}",
                **({"PermissionsBoundary": boundary} if boundary else {}),
            )  # fmt: skip
        self._seen("put_role_policy", f"the policy of the role {name}",
                   RoleName=name, PolicyName=f"clusterctl-{kind}", PolicyDocument=policy)  # fmt: skip
        if profile is None:
            self._make(
                "create_instance_profile", f"the instance profile {name}", InstanceProfileName=name, **self._labels()
            )
        if name not in roles:
            try:
                self._seen("add_role_to_instance_profile", f"the role in the instance profile {name}",
                           InstanceProfileName=name, RoleName=name)  # fmt: skip
            except ProviderError as error:
                if code_behind(error) != "LimitExceeded":  # it has its one role: another process was faster
                    raise
        return name

    def _policy(self, kind: str) -> dict[str, Any]:
        who = self._calls.read("sts", "get_caller_identity", "asking AWS for the number of this account")
        partition = str(who["Arn"]).split(":")[1]
        facts: dict[str, Any] = {"region": self._calls.region, "account": str(who["Account"]), "partition": partition}
        facts |= {"uid": self._uid, "parameters": self._parameters}
        worker = str(self._settings.get("worker_profile") or "")
        if kind == "head" and worker and worker != AUTO:
            facts["worker_role"] = self._role_in(worker)
        return render_policy(kind, **facts)

    def _role_in(self, profile: str) -> str:
        """Path and name of the role in the user's profile: the only one that the head may pass on."""
        name = profile.rpartition("/")[2]
        what = f"looking for the role in the instance profile {name}"
        found = self._calls.read("iam", "get_instance_profile", what, InstanceProfileName=name)
        roles = found["InstanceProfile"]["Roles"]
        if not roles:
            raise BadRequest(f"{what}: it has none; add one, or leave `worker_profile` out")
        return str(roles[0]["Arn"]).partition(":role/")[2]

    def _find(self, operation: str, field: str, **name: str) -> dict[str, Any] | None:
        """What has that name, if it is ours; None when there is nothing. Raises BadRequest when it is someone else's."""
        (wanted,) = name.values()
        try:
            found = self._calls.read("iam", operation, f"looking for {wanted} in IAM", **name)[field]
        except BadRequest as error:
            if code_behind(error) == "NoSuchEntity":
                return None
            raise
        if not self._is_tagged(found):
            raise BadRequest(
                f"IAM has {found['Arn']}, which does not carry the uid of cluster {self._cluster}: remove it, or name "
                "a profile under `provider: {aws: {instance_profile: ...}}`"
            )
        return found

    def _make(self, operation: str, thing: str, **parameters: Any) -> None:
        try:
            self._calls.read("iam", operation, f"making {thing}", **parameters)
        except BadRequest as error:
            if code_behind(error) != "EntityAlreadyExists":  # an earlier try whose answer was lost, or another process
                raise

    def _seen(self, operation: str, thing: str, **parameters: Any) -> None:
        """A call on what was made a moment ago: waits until IAM shows it everywhere."""
        backoff = Backoff(0.2, 5.0, seconds=SETTLES, clock=self._clock, sleep=self._pause)
        while True:
            try:
                self._calls.read("iam", operation, f"setting {thing}", **parameters)
                return
            except BadRequest as error:
                if code_behind(error) not in ("NoSuchEntity", "ConcurrentModification") or not backoff.wait():
                    raise

    def _labels(self) -> dict[str, Any]:
        pairs = {**dict(self._settings.get("tags") or {}), TAG_CLUSTER: self._cluster, TAG_UID: self._uid}
        return {"Path": self.path, "Tags": [{"Key": k, "Value": v} for k, v in sorted(pairs.items())]}

    def _is_tagged(self, found: Mapping[str, Any]) -> bool:
        return (TAG_UID, self._uid) in [(tag["Key"], tag["Value"]) for tag in found.get("Tags") or ()]

    # ------------------------------------------------------------ and removed

    def sweep(self) -> list[str]:
        """Removes what was made for this cluster. Returns a sentence for each thing that has to wait."""
        try:
            profiles = [p["InstanceProfileName"] for p in self._list("list_instance_profiles", "InstanceProfiles")]
            roles = [role["RoleName"] for role in self._list("list_roles", "Roles")]
        except AuthFailed as error:
            if code_behind(error) not in _FORBIDDEN or self.makes_some:
                raise
            log.info("%s; this cluster makes no role", error)
            return []
        waiting: list[str] = []
        with self._lock:
            for name in profiles:
                waiting += self._remove_profile(name)
            for name in roles:
                waiting += self._remove_role(name)
            self._made.clear()
        return waiting

    @property
    def makes_some(self) -> bool:
        """Whether the settings leave a role to us."""
        own_head = not self._settings.get("instance_profile") and not self._settings.get("head_address")
        return own_head or self._settings.get("worker_profile") == AUTO

    def _remove_profile(self, name: str) -> list[str]:
        profile = self._find("get_instance_profile", "InstanceProfile", InstanceProfileName=name)
        waiting: list[str] = []
        for role in (profile or {}).get("Roles") or ():
            waiting += self._remove(
                "remove_role_from_instance_profile", f"the role in the instance profile {name}",
                InstanceProfileName=name, RoleName=role["RoleName"],
            )  # fmt: skip
        return waiting or self._remove(
            "delete_instance_profile", f"the instance profile {name}", InstanceProfileName=name
        )

    def _remove_role(self, name: str) -> list[str]:
        """With its policies, also those that the user has attached since."""
        if self._find("get_role", "Role", RoleName=name) is None:
            return []
        waiting: list[str] = []
        for policy in self._list("list_role_policies", "PolicyNames", RoleName=name):
            waiting += self._remove("delete_role_policy", f"the policy {policy} of the role {name}",
                                    RoleName=name, PolicyName=policy)  # fmt: skip
        for policy in self._list("list_attached_role_policies", "AttachedPolicies", RoleName=name):
            waiting += self._remove("detach_role_policy", f"the policy {policy['PolicyName']} of the role {name}",
                                    RoleName=name, PolicyArn=policy["PolicyArn"])  # fmt: skip
        return waiting or self._remove("delete_role", f"the role {name}", RoleName=name)

    def _remove(self, operation: str, thing: str, **parameters: Any) -> list[str]:
        return removed(
            lambda: self._calls.read("iam", operation, f"removing {thing}", **parameters), thing,
            lambda error: code_behind(error) == "NoSuchEntity",
            lambda error: code_behind(error) in ("DeleteConflict", "ConcurrentModification"),
        )  # fmt: skip

    def clusters(self) -> list[tuple[str, str]]:
        """(cluster, uid) of every role that was made for a cluster of this region; none where we may not look."""
        found: set[tuple[str, str]] = set()
        try:
            for role in self._list("list_roles", "Roles", f"/clusterctl/{self._calls.region}/"):
                uid = str(role["Path"]).strip("/").rpartition("/")[2]
                match = re.fullmatch(r"clusterctl-(.+)-[^-]+-(?:head|worker)", str(role["RoleName"]))
                found.add((match.group(1) if match else "", uid))
        except AuthFailed as error:
            log.info("%s; clusters of which only a role is left are not seen", error)
        return sorted(found)

    def _list(self, operation: str, field: str, path: str = "", **parameters: Any) -> Iterator[Any]:
        """All pages. Roles and profiles of the cluster's own path, or of `path`; IAM pages with a marker."""
        wanted = path or ("" if parameters else self.path)
        prefix: dict[str, Any] = {"PathPrefix": wanted} if wanted else {}
        what = f"looking for roles of cluster {self._cluster} in IAM"

        def page(marker: str) -> tuple[dict[str, Any], str]:
            more = {"Marker": marker} if marker else {}
            found = self._calls.read("iam", operation, what, **parameters, **prefix, **more)
            return found, str(found["Marker"]) if found.get("IsTruncated") else ""

        for found in pages(page, what, "AWS"):
            yield from (row for row in found[field] if not wanted or str(row["Path"]).startswith(wanted))


def is_unseen(error: ProviderError) -> bool:
    """EC2 does not know an instance profile (yet)."""
    return isinstance(error, BadRequest) and _UNSEEN.search(str(error)) is not None
