"""A region that is not enabled for the account answers as if it did not know the keys. Told apart by asking elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

HOME = "us-east-1"  # enabled for every account of the partition that has regions to enable
_PARTITION = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-(?!gov|iso)[a-z]+-\d+")
_DOUBTFUL = frozenset({"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "OptInRequired"})
_CLOSED = "not-opted-in"


def region_trouble(code: str, region: str, client: Callable[[str, str], Any]) -> str:
    """A sentence where AWS knows the keys elsewhere, so that the region is what is wrong; "" where it is not. `code` is AWS's
    of the refusal; `client(service, region)` makes a client that the caller need not close."""
    if code not in _DOUBTFUL or region == HOME or not _PARTITION.fullmatch(region):
        return ""
    try:
        client("sts", HOME).get_caller_identity()
    except Exception:
        return ""  # no word on the region: the keys themselves are no good
    status = _status(region, client)
    enable = (
        f"enable it (`aws account enable-region --region-name {region}`, which takes a while) or name another region"
    )
    if status == _CLOSED:
        return f"the region {region} is not enabled for this account: {enable}"
    if status:
        return (
            f"AWS takes these credentials in {HOME} and not in {region}, which is enabled: a session's token of STS's global "
            "endpoint is not good there, get one with AWS_STS_REGIONAL_ENDPOINTS=regional"
        )
    return f"AWS takes these credentials in {HOME} and not in {region}: most often it is not enabled, {enable}"


def _status(region: str, client: Callable[[str, str], Any]) -> str:
    """Whether the account has enabled it, in AWS's words; "" where it is not to be known."""
    try:
        found = client("ec2", HOME).describe_regions(RegionNames=[region], AllRegions=True)["Regions"]
    except Exception:
        return ""
    return str(found[0].get("OptInStatus") or "") if found else ""
