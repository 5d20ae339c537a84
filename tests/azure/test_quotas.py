"""Quotas: which ones a size counts against in each market, and what cannot be had is seen beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clusterctl_providers.azure.calls import Calls
from clusterctl_providers.azure.market.quotas import Limits, check, family_quota, limit_rows, quotas_of
from clusterctl_providers.azure.market.skus import Skus
from clusterctl_providers.catalog import instance_types
from clusterctl_providers.cloud.quotas import LIST_LASTS, Quota, Quotas

from clusterctl.core.errors import QuotaExceeded
from tests.cloud.azure.cloud import AzureCloud
from tests.cloud.azure.sizes import sizes
from tests.cloud.azure.world import REGION, SUBSCRIPTION

MACHINES = {machine.name: machine for machine in instance_types("azure")}
T4 = "Standard_NC4as_T4_v3"
FAMILY = sizes()[T4.lower()].family


class Desk:
    def __init__(self, cloud: AzureCloud) -> None:
        self.now = 0.0
        settings = {
            "subscription": SUBSCRIPTION, "region": REGION, "endpoint_url": cloud.url, "calls_per_second": 500.0,
        }  # fmt: skip
        self.calls = Calls(settings, lambda seconds: None)
        self.skus = Skus(self.calls)
        self.quotas = Quotas(Limits(self.calls, lambda: self.now), lambda: self.now)

    def of(self, name: str, market: str = "on-demand") -> dict[str, float]:
        """Quota as people read it -> how much of it one machine takes."""
        return {quota.name: each for quota, each in quotas_of(MACHINES[name], market, self.skus)}

    def check(self, name: str, market: str = "on-demand", count: int = 1) -> None:
        check(self.quotas, MACHINES[name], market, count, self.calls, self.skus)

    def rows(self, *wanted: tuple[str, str]) -> list[tuple[str, bool, str]]:
        return limit_rows(self.quotas, wanted, self.calls, self.skus)


@pytest.fixture
def desk(cloud: AzureCloud) -> Iterator[Desk]:
    found = Desk(cloud)
    yield found
    found.calls.close()


def test_on_demand_a_machine_counts_for_its_family_and_for_the_region(desk: Desk) -> None:
    assert desk.of(T4) == {"Standard NCASv3_T4 Family vCPUs": 4, "Total Regional vCPUs": 4}


def test_spot_machines_of_all_families_count_together(desk: Desk) -> None:
    assert desk.of(T4, "spot") == desk.of("Standard_D4as_v5", "spot") == {"Total Regional Low-priority vCPUs": 4}


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("standardDASv5Family", "Standard DASv5 Family vCPUs"),
        ("StandardNCADSA100v4Family", "Standard NCADSA100v4 Family vCPUs"),
        ("Standard NCASv3_T4 Family", "Standard NCASv3_T4 Family vCPUs"),
        ("standardNDASv4_A100Family", "Standard NDASv4_A100 Family vCPUs"),
        ("of another kind", "of another kind"),
        ("standardNDSH100v5Family", "Standard NDSH100v5 Family vCPUs"),
    ],
)
def test_a_familys_quota_has_the_name_that_azures_page_shows(family: str, name: str) -> None:
    assert family_quota(family) == Quota(family.lower(), name)


def test_capitals_of_a_family_do_not_matter(desk: Desk, cloud: AzureCloud) -> None:
    """The list of sizes writes standardNCADSA100v4Family, that of quotas StandardNCADSA100v4Family."""
    cloud.world.quotas[FAMILY] = 7
    assert desk.quotas.limit(family_quota(FAMILY.upper())) == 7


def test_a_quota_below_one_node_is_seen_beforehand_with_where_to_ask_for_more(desk: Desk, cloud: AzureCloud) -> None:
    cloud.world.quotas[FAMILY] = 0
    with pytest.raises(QuotaExceeded) as caught:
        desk.check(T4)
    words = str(caught.value)
    assert f"{T4} has 4 vCPUs, the quota 'Standard NCASv3_T4 Family vCPUs' in eastus is 0" in words
    assert "https://portal.azure.com" in words and caught.value.quota == "Standard NCASv3_T4 Family vCPUs"
    desk.check(T4, "spot")


def test_a_gang_that_a_quota_cannot_hold_even_alone_is_refused(desk: Desk, cloud: AzureCloud) -> None:
    cloud.world.quotas["lowPriorityCores"] = 10
    desk.check(T4, "spot", 2)
    with pytest.raises(QuotaExceeded, match=r"a gang of 3 Standard_NC4as_T4_v3 has 12 vCPUs.* is 10"):
        desk.check(T4, "spot", 3)
    desk.check(T4, "on-demand", 3)


def test_the_regions_total_binds_as_well(desk: Desk, cloud: AzureCloud) -> None:
    cloud.world.quotas["cores"] = 3
    with pytest.raises(QuotaExceeded, match="'Total Regional vCPUs' in eastus is 3"):
        desk.check("Standard_D4as_v5")


def test_what_the_account_does_not_tell_holds_nobody_back(desk: Desk, cloud: AzureCloud) -> None:
    cloud.world.denied = {"Microsoft.Compute/locations/usages/read"}
    desk.check(T4)
    (row,) = desk.rows((T4, "spot"))
    assert row == (
        "quota 'Total Regional Low-priority vCPUs': not to be looked up (Microsoft.Compute/locations/usages/read)", True, ""
    )  # fmt: skip


def test_without_the_list_of_sizes_the_regions_total_is_still_known(desk: Desk, cloud: AzureCloud) -> None:
    cloud.world.denied = {"Microsoft.Compute/skus/read"}
    assert desk.of(T4) == {"Total Regional vCPUs": 4}


def test_doctor_has_a_row_for_each_quota_that_pools_count_against(desk: Desk, cloud: AzureCloud) -> None:
    cloud.world.quotas |= {FAMILY: 2, "cores": 50, "lowPriorityCores": 8}
    rows = desk.rows((T4, "on-demand"), (T4, "spot"), ("Standard_D4as_v5", "spot"))
    assert [(text, ok) for text, ok, _ in rows] == [
        ("quota 'Standard NCASv3_T4 Family vCPUs' of 4 vCPUs, it is 2", False),
        ("quota 'Total Regional vCPUs' is 50 vCPUs", True),
        ("quota 'Total Regional Low-priority vCPUs' is 8 vCPUs", True),
    ]
    assert all("https://portal.azure.com" in fix for _, _, fix in rows)


def test_quotas_are_looked_up_once_for_all_of_them(desk: Desk, cloud: AzureCloud) -> None:
    desk.rows((T4, "on-demand"), (T4, "spot"))
    assert cloud.world.operations().count("usage.list") == 1
    desk.now += LIST_LASTS + 1
    desk.rows((T4, "on-demand"))
    assert cloud.world.operations().count("usage.list") == 1, "believed for an hour"


def test_every_size_of_the_catalogue_has_quotas(desk: Desk) -> None:
    listed = [MACHINES[name] for name in desk.skus.all()]
    assert listed and all(len(quotas_of(machine, "on-demand", desk.skus)) == 2 for machine in listed)
