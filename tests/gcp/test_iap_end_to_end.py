"""A cluster whose head has no public address, behind the Identity-Aware Proxy, and a user who may just what the roles say."""

from __future__ import annotations

import json
from pathlib import Path

from clusterctl_providers.gcp.roles import permissions_of

from tests.cloud.gcp.cloud import GcpCloud
from tests.cloud.gcp.machines import GcpMachines
from tests.cloud.gcp.world import PROJECT
from tests.cloud.machines import CIDR, GATEWAY
from tests.gcp.cluster import CloudHeadCluster

POOL = "  - {name: cpu, instances: [e2-medium], min: 1, max: 2, idle_timeout: 30m}"
RELAY = "35.235.240.0/20"


def test_a_cluster_lives_behind_the_proxy_with_the_roles_as_they_are_printed(tmp_path: Path) -> None:
    with GcpCloud(CIDR) as cloud, GcpMachines(cloud) as machines:
        roles = frozenset[str]().union(*map(permissions_of, ("client", "accounts", "iap")))
        with cloud.credentials(cloud.add_account("user", *roles)):
            cluster = CloudHeadCluster(tmp_path, cloud, machines, POOL, "reach: iap")
            text = cluster.spec.read_text()
            cluster.spec.write_text(text.replace(f'    ssh_from: ["{GATEWAY}"]\n', ""))
            try:
                cluster.up()
                (head,) = cluster.heads()
                assert not head.body["networkInterfaces"][0].get("accessConfigs"), "it has no public address"
                rules = [rule for rule in cloud.compute.store.every("firewalls") if "allowed" in rule]
                assert [source for rule in rules for source in rule.get("sourceRanges", ())] == [RELAY]
                first, second = (cluster.submit("--cpus", "2", "--", "sh", "-c", "sleep 3; hostname") for _ in range(2))
                for job in (first, second):  # the second one takes a machine that the head itself launches
                    cluster.wait_job(job, "succeeded")
                assert cluster.cli("logs", second).stdout.strip()
                assert cluster.on_head("echo", "here").stdout.strip() == "here"
                assert cloud.iap.acknowledged, "all of it went through the relay"
                who = {email for email, permission in cloud.world.called_by if permission.startswith("iap.tunnel")}
                assert who == {f"user@{PROJECT}.iam.gserviceaccount.com"}
                own = head.body["serviceAccounts"][0]["email"]
                worked = {permission for email, permission in cloud.world.called_by if email == own}
                assert "compute.instances.create" in worked and worked <= permissions_of("head"), "as its own account"
                checks = json.loads(cluster.cli("doctor", str(cluster.spec), "--json", code=None).stdout)["checks"]
                missing = [c for c in checks if "permission" in c["name"] + c["found"] and not c["ok"]]
                assert missing == [], missing
                cluster.down()
                assert cloud.leftovers() == []
            finally:
                cluster.clean_up()
