"""Which of two versions is the older."""

from __future__ import annotations

import re


def deb_order(version: str) -> tuple[object, ...]:
    """A key by which dpkg's versions sort as dpkg sorts them (Debian policy 5.6.12, deb-version(7)).

    >>> sorted(["1.0-1", "1.0~rc1-1", "1:0.9-1", "1.0-1+b1", "1.0.1-1"], key=deb_order)
    ['1.0~rc1-1', '1.0-1', '1.0-1+b1', '1.0.1-1', '1:0.9-1']
    """
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch) if epoch.isdecimal() else 0, _part_order(upstream), _part_order(revision or "0")


def _part_order(text: str) -> tuple[object, ...]:
    """Digits by their value, what is between them by its letters: `~` before the end, letters before other signs."""
    found: list[object] = []
    for signs, digits in re.findall(r"([^0-9]*)([0-9]*)", text):
        found.append((*map(_sign_order, signs), 0))
        found.append(int(digits or "0"))
    return tuple(found)


def _sign_order(sign: str) -> int:
    return -1 if sign == "~" else ord(sign) if sign.isascii() and sign.isalpha() else ord(sign) + 256
