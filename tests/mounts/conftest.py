"""A server that speaks S3, for nodes of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-that-nobody-sees"}


class S3:
    """`url` is where nodes of this machine find it; those elsewhere find its `port` at an address of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client: Any = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip

    def put(self, bucket: str, **objects: bytes) -> None:
        self.client.create_bucket(Bucket=bucket)
        for name, data in objects.items():
            self.client.put_object(Bucket=bucket, Key=name.replace("__", "/"), Body=data)

    def read(self, bucket: str, key: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket: str) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    server = ThreadedMotoServer("0.0.0.0", 0, verbose=False)
    server.start()
    yield S3(int(server._server.server_port))  # type: ignore[union-attr]
    server.stop()
