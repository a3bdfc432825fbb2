"""A Dockerfile's text -> its instructions, each with the lines where it stands. Pure.

    directives     `# escape=`, `# syntax=`, `# check=` before anything else
    lines          joined where one ends in the escape character; comments and empty lines between them are dropped
    heredocs       the lines after RUN, COPY and ADD that a `<<NAME` among their words takes
    flags          `--name=value` words at the beginning, of instructions that have some
    lists          ["word", ...] in JSON, where that is what follows; otherwise the text as it is

What words mean is runtime.building.stages' business, and variables are not looked at here. Whatever is wrong is
BadInput with the line. No parser among Python packages knows heredocs, escapes and flags; those that wrap Docker's own
need a Go compiler.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vcs.errors import BadInput

SIZE_MAX = 4 << 20
"""Bytes of a Dockerfile."""
WORDS = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip
_HAVE_FLAGS = frozenset({"ADD", "COPY", "FROM", "HEALTHCHECK", "RUN"})
_HAVE_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(\S.*)")
_HEREDOC = re.compile(r"(\d*)<<(-?)((?:[^<'\"\s]|'[^']*'|\"[^\"]*\")+)")
_SYNTAX = re.compile(r"(docker\.io/)?docker/dockerfile(-upstream)?(:1[\w.-]*|:latest|:labs)?")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Lines that belong to an instruction."""

    name: str
    content: str
    expand: bool
    """Whether variables count in it: not if its name was quoted."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, as it is written."""

    line: int
    """From 1 on."""
    word: str
    """In capitals."""
    rest: str
    """What follows the flags."""
    flags: tuple[tuple[str, str | None], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    source: str = ""
    """All of it, lines joined: for people."""

    @property
    def items(self) -> list[str] | None:
        """The words of a JSON array; None if it is none."""
        if not self.rest.startswith("["):
            return None
        try:
            found = json.loads(self.rest)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else None

    def error(self, text: str) -> BadInput:
        """BadInput about this instruction."""
        return wrong(self.line, f"{self.word}: {text}")


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """All instructions, and the character that escapes."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def wrong(line: int, text: str) -> BadInput:
    """BadInput that says where."""
    return BadInput(f"Dockerfile, line {line}: {text}", line=line)


def parse(data: bytes) -> Dockerfile:
    """BadInput, with the line, for whatever is no Dockerfile."""
    if len(data) > SIZE_MAX:
        raise BadInput(f"the Dockerfile is larger than {SIZE_MAX} bytes", size=len(data))
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise wrong(data[: error.start].count(b"\n") + 1, "it is not UTF-8") from None
    if "\0" in text:
        raise wrong(text[: text.index("\0")].count("\n") + 1, "a NUL is in it")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    escape, first = _directives(lines)
    return Dockerfile(tuple(_Lines(lines, first, escape)), escape)


def parse_trigger(text: str, line: int, escape: str) -> Instruction:
    """The instruction in an ONBUILD, or one that a base's config has. BadInput."""
    found = _instruction(line, text, escape)
    if found.word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise wrong(line, f"{found.word} cannot be in an ONBUILD")
    return found


def _directives(lines: Sequence[str]) -> tuple[str, int]:
    """The escape character, and how many lines the directives take."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in ("escape", "syntax", "check"):
            break
        if name in found:
            raise wrong(number + 1, f"a second directive {name!r}")
        found[name] = match[2]
        if name == "escape" and match[2] not in ("\\", "`"):
            raise wrong(number + 1, f"the escape character is \\ or `, not {match[2]!r}")
        if name == "syntax" and not _SYNTAX.fullmatch(match[2].partition("@")[0]):
            raise wrong(number + 1, f"the syntax {match[2]!r} is not known: docker/dockerfile:1 is")
    return found.get("escape", "\\"), len(found)


class _Lines:
    """The lines of a file, taken together to instructions."""

    def __init__(self, lines: Sequence[str], first: int, escape: str) -> None:
        self._lines = lines
        self._at = first
        self._escape = escape
        quoted = re.escape(escape)
        self._goes_on = re.compile(rf"(?:(?<!{quoted})|^){quoted}[ \t]*$")

    def __iter__(self) -> Iterator[Instruction]:
        while self._at < len(self._lines):
            line, text = self._at + 1, self._joined()
            if text.strip():
                yield self._with_heredocs(_instruction(line, text.strip(), self._escape))

    def _joined(self) -> str:
        """The next logical line; empty for one that is none."""
        parts: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if not line.strip() or line.lstrip().startswith("#"):
                if not parts:
                    return ""
                continue
            shorter, more = self._goes_on.subn("", line)
            parts.append(shorter if parts else shorter.lstrip())
            if not more:
                break
        return "".join(parts)

    def _with_heredocs(self, found: Instruction) -> Instruction:
        inner = found
        if found.word == "ONBUILD":
            inner = parse_trigger(found.rest, found.line, self._escape)
        if inner.word not in _HAVE_HEREDOCS or inner.items is not None:
            return found
        heredocs = tuple(self._heredoc(match, found.line) for match in heredoc_words(inner.rest))
        if heredocs and inner is not found:
            raise found.error("a heredoc in an ONBUILD is not supported")
        return replace(found, heredocs=heredocs) if heredocs else found

    def _heredoc(self, match: re.Match[str], line: int) -> Heredoc:
        name = match[3].replace("'", "").replace('"', "")
        lines: list[str] = []
        while self._at < len(self._lines):
            text = self._lines[self._at].lstrip("\t") if match[2] else self._lines[self._at]
            self._at += 1
            if text == name:
                return Heredoc(name, "".join(f"{one}\n" for one in lines), name == match[3])
            lines.append(text)
        raise wrong(line, f"the heredoc <<{name} has no end: a line with {name} alone is missing")


def heredoc_words(text: str) -> list[re.Match[str]]:
    """Where `<<NAME` stands among the words of a text, outside of quotes."""
    found, at = [], 0
    while at < len(text):
        if text[at] in "'\"":
            end = text.find(text[at], at + 1)
            at = len(text) if end < 0 else end + 1
        elif (text[at] == "<" or text[at].isdigit()) and (at == 0 or text[at - 1].isspace()):
            match = _HEREDOC.match(text, at)
            if match and (match.end() == len(text) or text[match.end()] in " \t;&|)>"):
                found.append(match)
            at = match.end() if match else at + 1
        else:
            at += 2 if text[at] == "\\" else 1
    return found


def _instruction(line: int, text: str, escape: str) -> Instruction:
    word, rest = (*text.split(None, 1), "")[:2]
    word, rest = word.upper(), rest.strip()
    if word not in WORDS:
        raise wrong(line, f"{word[:40]!r} is no instruction")
    flags: list[tuple[str, str | None]] = []
    while word in _HAVE_FLAGS and rest.startswith("--"):
        flag, rest = _first_word(rest, escape, line)
        if flag == "--":
            break
        name, equals, value = flag[2:].partition("=")
        flags.append((name, value if equals else None))
    if not rest:
        raise wrong(line, f"{word} says nothing")
    return Instruction(line, word, rest, tuple(flags), source=text)


def _first_word(text: str, escape: str, line: int) -> tuple[str, str]:
    """The first word, without its quotes, and what follows it."""
    word, quote, at = [], "", 0
    while at < len(text) and (quote or not text[at].isspace()):
        character = text[at]
        if character == escape and quote != "'" and at + 1 < len(text):
            at += 1
            word.append(text[at])
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        else:
            word.append(character)
        at += 1
    if quote:
        raise wrong(line, f"a quote {quote} has no end")
    return "".join(word), text[at:].strip()
