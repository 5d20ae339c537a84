"""What an instance carries from the first moment on, by which it is known again.

AWS           50 tags on each of instance, volumes and network cards, keys of 128 and values of 256 characters
Google Cloud  64 labels of [a-z0-9_-], 63 characters each; what does not go into one (a maker, a note of the user's in capital
              letters) goes into the instance's metadata, under the same key
Azure         50 tags on the VM, its card and disks, keys of 512 and values of 256 characters
"""

from __future__ import annotations

from collections.abc import Mapping

from clusterctl_providers.base import TAG_GENERATION, TAG_HEAD, TAG_MAKER, TAG_NODE, TAG_TOKEN, CreateRequest
from clusterctl_providers.cloud.batches import TAG_NODES, Batch, nodes_tag

HERE = "here"


def launch_tags(
    users: Mapping[str, str], batch: Batch, request: CreateRequest, *, head_here: bool = False, maker: str = ""
) -> dict[str, str]:
    """The tags of all instances of a call: the user's, which never replace ours; who each is, or all of them in one tag
    (`nodes_tag`). `head_here`: the head daemon runs on the instance; `maker`: who looks after it, where that runs on none."""
    tags = {**users, **request.tags}
    if len(batch.members) > 1:
        for name in (TAG_NODE, TAG_GENERATION, TAG_TOKEN):
            tags.pop(name, None)
        tags[TAG_NODES] = nodes_tag(batch.members)
    if head_here:
        tags[TAG_HEAD] = HERE
    if maker:
        tags[TAG_MAKER] = maker
    return tags
