"""How a route finds what it needs: the head it belongs to, and what the API has of its own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from clusterctl_runtime.head.api.status_board import StatusBoard
from clusterctl_runtime.head.api.tickets import Tickets
from clusterctl_runtime.head.metrics.render import Exposition

LARGEST = 2**63 - 1  # of a number that a caller may send: what SQLite and files can count to


def _head(request: Request) -> Any:
    return request.app.state.head


def _board(request: Request) -> Any:
    return request.app.state.board


def _exposition(request: Request) -> Any:
    return request.app.state.exposition


def _tickets(request: Request) -> Any:
    return request.app.state.tickets


# Typed as Any for FastAPI, which would otherwise take a class of ours for a request body.
HeadDep = Annotated[Any, Depends(_head)]
BoardDep = Annotated[StatusBoard, Depends(_board)]
ExpositionDep = Annotated[Exposition, Depends(_exposition)]
TicketsDep = Annotated[Tickets, Depends(_tickets)]
