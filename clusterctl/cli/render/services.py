"""Services as a person reads them; nothing here fetches."""

from __future__ import annotations

import shlex
from typing import Any

from clusterctl.cli.render.escape import one_line
from clusterctl.cli.render.status import state
from clusterctl.cli.render.text import columns


def render_services(document: dict[str, Any]) -> str:
    """The document of `service list`."""
    services = document["services"]
    if not services:
        return "no services: `clusterctl service run --name NAME -- COMMAND` starts one"
    rows = [
        [
            one["name"],
            state(one["state"]),
            f"{one['well']}/{one['replicas']}",
            _version(one),
            str(sum(member["open"] for member in one["members"])),
            _program(one),
        ]
        for one in services
    ]
    return columns(["service", "state", "well", "version", "open", "program"], rows, right=(2, 4))


def _version(one: dict[str, Any]) -> str:
    now, wanted = one["version"] or "-", one["wanted"]
    return f"{now} -> {wanted}" if wanted and wanted != one["version"] else str(now)


def _program(one: dict[str, Any]) -> str:
    return one_line(" ".join(filter(None, [one["script"], shlex.join(one["entrypoint"])])))


def render_service(one: dict[str, Any], here: str) -> str:
    """One service with its replicas. `here` says how it is reached from this machine."""
    lines = [
        f"service {one['name']}: {state(one['state'])}, {one['well']} of {one['replicas']} well",
        f"runs       {_program(one) or '-'}",
        f"version    {_version(one)}"
        + (f" (before it: {', '.join(_before(one))})" if _before(one) else ""),
        f"health     {'GET ' + one['health'] if one['health'] else 'it takes connections'}",
        f"reached    {here}",
        f"token      `clusterctl service token {one['name']}`",
    ]  # fmt: skip
    if one["public_port"]:
        lines.append(f"outside    https://HEAD:{one['public_port']}{one['path']}")
    if one["entry_trouble"]:
        lines.append(f"trouble    {one_line(one['entry_trouble'])}")
    if given_up := one["given_up"]:
        logs = f" (`clusterctl logs {given_up['job']}`)" if given_up["job"] else ""
        lines.append(f"given up   version {given_up['version']}: {one_line(given_up['why'])}{logs}")
    if one["members"]:
        rows = [
            [
                member["job"],
                str(member["version"]),
                state(member["state"]),
                member["node"] or "-",
                member["address"] or "-",
                str(member["open"]),
                member["why"] or ("its node drains" if member["moving"] else ""),
            ]
            for member in one["members"]
        ]
        lines += ["", columns(["replica", "version", "state", "node", "address", "open", "why"], rows, right=(1, 5))]
    return "\n".join(lines)


def _before(one: dict[str, Any]) -> list[str]:
    return [str(v["version"]) for v in one["versions"] if v["served"] and v["version"] != one["version"]]
