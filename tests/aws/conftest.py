from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloud.aws_cloud import AwsCloud, credentials


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with credentials(), AwsCloud() as cloud:
        yield cloud
