"""Makes `names.json` of the catalogue: names that clouds have, besides those of which the catalogue knows what they cost.

    python scripts/make_names.py

AWS's regions and instance types are those of the installed botocore. Nobody publishes the others' regions for programs without
an account: those lists are kept here by hand.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import botocore

TARGET = Path(__file__).resolve().parent.parent / "providers" / "clusterctl_providers" / "catalog" / "names.json"
GCP = """
africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1 asia-south2 asia-southeast1
asia-southeast2 asia-southeast3 australia-southeast1 australia-southeast2 europe-central2 europe-north1 europe-north2
europe-southwest1 europe-west1 europe-west10 europe-west12 europe-west2 europe-west3 europe-west4 europe-west6 europe-west8
europe-west9 me-central1 me-central2 me-west1 northamerica-northeast1 northamerica-northeast2 northamerica-south1
southamerica-east1 southamerica-west1 us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4
"""
AZURE = """
australiacentral australiacentral2 australiaeast australiasoutheast austriaeast belgiumcentral brazilsouth brazilsoutheast
canadacentral canadaeast centralindia centralus centraluseuap chilecentral chinaeast chinaeast2 chinaeast3 chinanorth
chinanorth2 chinanorth3 denmarkeast eastasia eastus eastus2 eastus2euap eastus3 francecentral francesouth germanynorth
germanywestcentral indonesiacentral israelcentral italynorth japaneast japanwest jioindiacentral jioindiawest koreacentral
koreasouth malaysiasouth malaysiawest mexicocentral newzealandnorth northcentralus northeurope norwayeast norwaywest
polandcentral qatarcentral southafricanorth southafricawest southcentralus southeastasia southindia spaincentral swedencentral
swedensouth switzerlandnorth switzerlandwest taiwannorth taiwannorthwest uaecentral uaenorth uksouth ukwest usdodcentral
usdodeast usgovarizona usgovtexas usgovvirginia westcentralus westeurope westindia westus westus2 westus3
"""


def main() -> None:
    data = Path(botocore.__file__).parent / "data"
    partitions = json.loads((data / "partitions.json").read_text())["partitions"]
    regions = [name for one in partitions for name in one["regions"] if not name.endswith("-global")]
    newest = max((data / "ec2").iterdir())
    api = json.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes()))
    types: dict[str, list[str]] = {}
    for name in api["shapes"]["InstanceType"]["enum"]:
        family, _, size = name.partition(".")
        types.setdefault(family, []).append(size)
    written: dict[str, dict[str, Any]] = {
        "aws": {
            "source": f"botocore-{botocore.__version__}",
            "regions": sorted(regions),
            "types": {family: " ".join(sizes) for family, sizes in sorted(types.items())},
        },
        "gcp": {"source": "by hand", "regions": GCP.split()},
        "azure": {"source": "by hand", "regions": AZURE.split()},
    }
    TARGET.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
