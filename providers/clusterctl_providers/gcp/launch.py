"""bulkInsert: what a launch of many like nodes asks of Compute Engine, and what comes of it (`cloud.launch.LaunchCalls`).

Google answers with an operation, which is waited for. What makes a repeated launch the same one is the name of each instance;
the call's requestId, which is in the book, makes Google answer with the same operation again.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clusterctl.core.errors import (
    BadRequest,
    NoCapacity,
    NotYet,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownOutcome,
)
from clusterctl.core.model import Instance, launch_token
from clusterctl_providers.base import TAG_GENERATION, TAG_NODE, CreateRequest, CreateResult, HeadMachine, PoolRequest
from clusterctl_providers.catalog import InstanceType, instance_types
from clusterctl_providers.cloud.batches import Batch, Member, names_of, shared_bootstrap
from clusterctl_providers.cloud.boot import user_data
from clusterctl_providers.cloud.launch import AlreadyBegun, is_gang
from clusterctl_providers.cloud.listing import Listing
from clusterctl_providers.cloud.quotas import Quotas
from clusterctl_providers.cloud.reservations import RESERVED, Reservations
from clusterctl_providers.cloud.tags import launch_tags
from clusterctl_providers.gcp import quotas as limits
from clusterctl_providers.gcp.calls import Calls, last_part
from clusterctl_providers.gcp.errors import OperationError, is_missing, is_taken, reason_behind, typed
from clusterctl_providers.gcp.images import Images
from clusterctl_providers.gcp.instance_body import Wish, instance_of, properties
from clusterctl_providers.gcp.instances import InstanceRows
from clusterctl_providers.gcp.names import TAG_LAUNCH, id_of, instance_name, labels_and_metadata, tells
from clusterctl_providers.gcp.network import Network
from clusterctl_providers.gcp.reservations import DENSE, FLEX_START, affinity_name
from clusterctl_providers.gcp.series import is_placed
from clusterctl_providers.this_machine import maker

log = logging.getLogger(__name__)

MOST_NODES = 200  # in one call; Google takes 1,000, but the join tokens of all are in the metadata of each
MOST_USER_DATA = 200 * 1024  # bytes; a value of metadata may have 256 KiB
MOST_LABELS = 64
