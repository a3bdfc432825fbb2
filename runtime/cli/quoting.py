"""Names and messages from a store, made safe to print. They are chosen by whoever made the files: a name may hold a
newline that forges a line of output, or an escape sequence that a terminal obeys."""

from __future__ import annotations

from typing import Any

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(path: bytes) -> str:
    """A path for people: as it is, or between quotes with C escapes if a byte of it is odd, as git does.

    Unlike git's default (core.quotePath), printable characters beyond ASCII stay as they are.

    >>> quoted(b"/etc/hosts"), quoted(b"a\\nb")
    ('/etc/hosts', '"a\\\\nb"')
    """
    try:
        text = path.decode()
        if text.isprintable() and '"' not in text and "\\" not in text:
            return text
    except UnicodeDecodeError:
        text = path.decode("utf-8", "surrogateescape")
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    number = ord(character)
    if number in _ESCAPES:
        return _ESCAPES[number]
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def safe(text: str) -> str:
    """Text of several lines for people: control characters other than newline and tab are shown, not sent."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else _escaped(character) for character in text
    )


def path_fields(path: bytes, name: str = "path") -> dict[str, Any]:
    """A path for JSON: text, and if the text does not say it exactly (the bytes are not UTF-8), the bytes as well.

    >>> path_fields(b"\\xff")
    {'path': '\\ufffd', 'path_bytes': 'ff'}
    """
    try:
        return {name: path.decode()}
    except UnicodeDecodeError:
        return {name: path.decode("utf-8", "replace"), f"{name}_bytes": path.hex()}
