"""Times as names: ISO 8601, in UTC unless they say otherwise.

2026-11-01                    when that day began
2026-11-01T12:30              a space may stand for the T
2026-11-01T12:30:15.5         fractions are cut off: commits have whole seconds
2026-11-01T12:30Z  2026-11-01T12:30+01:00  2026-11-01T12:30+0100  2026-11-01T12:30-03
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_MOMENT = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d{1,9})?)?(Z|[+-]\d\d(?::?[0-5]\d)?)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parsed(name: bytes) -> int | None:
    """The seconds since 1970 that a name stands for, None if for none.

    >>> parsed(b"1970-01-02"), parsed(b"1970-01-01T01:00+01:00"), parsed(b"1970-02-30")
    (86400, 0, None)
    """
    match = _MOMENT.fullmatch(name)
    if match is None:
        return None
    try:
        fields = [int(digits or 0) for digits in match.groups()[:6]]
        moment = datetime(*fields, tzinfo=_zone(match[7] or b"Z"))  # type: ignore[misc, arg-type]
        return (moment - _EPOCH) // timedelta(seconds=1)
    except ValueError:
        return None


def text(seconds: int, offset: int = 0) -> str:
    """A time in the form that parsed() reads; `offset` is minutes east of UTC.

    >>> text(0), text(0, 90)
    ('1970-01-01T00:00:00+00:00', '1970-01-01T01:30:00+01:30')
    """
    try:
        return (_EPOCH + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=offset))).isoformat()
    except (ValueError, OverflowError):  # beyond the year 9999, or a zone that is none: who wrote that commit?
        return f"{seconds} seconds after 1970"


def _zone(text: bytes) -> timezone:
    if text == b"Z":
        return UTC
    digits = text[1:].replace(b":", b"").ljust(4, b"0")
    east = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-east if text[:1] == b"-" else east)
