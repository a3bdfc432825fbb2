"""Times as people give them."""

from __future__ import annotations

import re
import time

import click

from fusefs.moments import parsed

_LENGTH = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_UNITS = (604800, 86400, 3600, 60, 1)


def seconds(text: str) -> float | None:
    """A length of time: `90`, `90s`, `1.5s`, `10m`, `2h30m`, `7d`, `1w`; None if it is none.

    >>> seconds("90"), seconds("1h30m"), seconds("soon")
    (90.0, 5400.0, None)
    """
    found = _LENGTH.fullmatch(text)
    if not found or not text:
        return None
    return sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part)


def point(text: str, option: str) -> float:
    """A point in time, in seconds since 1970: ISO 8601 (UTC unless it says otherwise), such seconds themselves after an
    @, or how long ago. click.BadParameter if it is none."""
    if text.startswith("@"):
        try:
            return float(text[1:])
        except ValueError:
            pass
    elif (ago := seconds(text)) is not None:
        return time.time() - ago
    elif (moment := parsed(text.encode())) is not None:
        return moment
    raise click.BadParameter(
        f"{text!r} is no time: write 2026-11-01T12:30, 10m for ten minutes ago, or @SECONDS since 1970",
        param_hint=option,
    )
