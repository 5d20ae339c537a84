"""Verbs that are given a command behind `--`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class BehindDashes(TyperCommand):
    """Keeps apart what stands before `--` and behind it, which the parser itself does not tell: the words of the command are in
    `context.meta["clusterctl.command"]`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta["clusterctl.command"] = args[cut + 1 :]
        return super().parse_args(ctx, args[:cut])
