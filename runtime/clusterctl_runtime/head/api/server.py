"""The HTTP server of the API: it serves sockets that the head opened, and leaves signals to the head."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from clusterctl_runtime.head.api.callers import PunctualProtocol


class ApiServer(uvicorn.Server):
    """uvicorn without its signal handlers: the head has its own."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http=PunctualProtocol,
            ws="none",  # streams are NDJSON
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
