"""EC2's metadata service in its second version, in which a token is got first."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from tests.cloud.metadata import Answer, Facts


class Imds:
    """A dialect of `metadata.MetadataServer`."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()

    def __call__(self, method: str, path: str, headers: Mapping[str, str], facts: Facts) -> Answer:
        if method == "PUT":
            if path != "/latest/api/token" or not headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
                return Answer(400)
            self._tokens.add(token := secrets.token_urlsafe(16))
            return Answer(200, token)
        if headers.get("X-aws-ec2-metadata-token") not in self._tokens:
            return Answer(401)
        name = path.removeprefix("/latest/").removeprefix("meta-data/")
        text = facts.get(name, "")
        return Answer(200, text) if text else Answer(404)
