"""The web page: static files without a build step and without data of their own; all data comes through the API.

`mount` serves them from the head. The guard in front of the head sets the security headers.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_REVALIDATE = {"cache-control": "no-cache"}  # an upgraded head must not meet yesterday's scripts in the browser


def static_dir() -> Path:
    """Where the page's files are in the installed package."""
    return Path(str(files(__name__) / "static"))


class _Files(StaticFiles):
    def file_response(self, full_path, stat_result, scope: Scope, status_code: int = 200):  # type: ignore[no-untyped-def]
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_REVALIDATE)
        return response


def mount(app: FastAPI) -> None:
    """Serves the page at `/` and its files at `/static/*`."""
    directory = static_dir()

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(directory / "index.html", headers=_REVALIDATE)

    app.mount("/static", _Files(directory=directory), name="static")
