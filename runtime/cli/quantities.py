"""How much of something an option says: memory, processors, a number of processes, a restart policy. Docker's words."""

from __future__ import annotations

import re

import click

from runtime.settings import Restart

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_LEAST_MEMORY = 6 << 20
"""Bytes: Docker's. With less, not even the OCI runtime gets to the command."""
_POLICIES = ("no", "on-failure", "always", "unless-stopped")


class Memory(click.ParamType):  # type: ignore[type-arg]
    """Bytes, with k, m, g or t for powers of 1024. 0 for no limit."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if not found:
            self.fail(f"{value!r} is no size, as 512m or 2g", param, ctx)
        size = int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
        if 0 < size < _LEAST_MEMORY:
            self.fail(f"{value!r} is too little: the least is 6m", param, ctx)
        return size


class RestartPolicy(click.ParamType):  # type: ignore[type-arg]
    """no, on-failure[:ATTEMPTS], always or unless-stopped."""

    name = "policy"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Restart:
        if isinstance(value, Restart):
            return value
        policy, colon, attempts = str(value).partition(":")
        if policy not in _POLICIES or (colon and (policy != "on-failure" or not attempts.isdecimal())):
            self.fail(f"{value!r} is not one of no, on-failure[:ATTEMPTS], always, unless-stopped", param, ctx)
        return Restart(policy, int(attempts or 0))  # type: ignore[arg-type]


MEMORY = Memory()
PROCESSORS = click.FloatRange(min=0)
PROCESSES = click.IntRange(min=-1)
RESTART = RestartPolicy()
