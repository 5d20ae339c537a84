"""How a route finds the head it belongs to."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request


def _head(request: Request) -> Any:
    return request.app.state.head


# Typed as Any for FastAPI, which would otherwise take a class of ours for a request body.
HeadDep = Annotated[Any, Depends(_head)]
