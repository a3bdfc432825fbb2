"""What counts as a secret: sixteen kinds that are recognised by their form, and hardly ever wrongly.

Words that every secret of a kind holds are searched for first, all at once, by an automaton (ahocorasick-rs,
compiled): 72 MB of text in a Debian root take 14 ms, a search for each word in turn 640 ms, a regular expression of all
970 ms. Only where a word stands is the kind's expression tried. The words are rare on purpose, and the expressions
bounded, so that no content makes them slow.

detect-secrets, the well-kept library for this, takes 70 ms to import and half a second for a file of 150 kB. Guesses by
entropy, as it makes them, would warn in every root; passwords in prose are not looked for either.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from vcs.texts import is_binary

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick


class Kind(NamedTuple):
    """A kind of secret."""

    name: str
    words: tuple[bytes, ...]
    """One of these is in every secret of the kind."""
    form: bytes
    """A regular expression."""


_GAP = rb"(?:\s|\\r|\\n){0,8}"
"""Between the lines of a key, which may stand in a JSON string."""
_ARMOUR = rb"(?:[A-Za-z-]{1,40}: ?[^\n\\]{0,200}(?:\n|\\n)){0,8}"
"""Lines before a key's content: `Proc-Type: 4,ENCRYPTED`, `Version: ...`."""
_QUOTE = rb"[\"']?"

KINDS = (
    Kind("private key", (b"PRIVATE KEY",),
         rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----" + _GAP + _ARMOUR + _GAP
         + rb"[A-Za-z0-9+/=]{40}"),
    Kind("PuTTY private key", (b"PuTTY-User-Key-File",), rb"PuTTY-User-Key-File-[0-9]: [\s\S]{0,4000}Private-Lines: "),
    Kind("age private key", (b"AGE-SECRET-KEY-1",), rb"AGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
    Kind("AWS access key", (b"AKIA", b"ASIA"),
         rb"(?<![A-Za-z0-9/+=_-])A[KS]IA(?!.{9}EXAMPLE)[A-Z2-7]{16}(?![A-Za-z0-9/+=_-])"),
    Kind("AWS secret key", (b"aws_secret_access_key", b"AWS_SECRET_ACCESS_KEY"),
         rb"(?i:aws_secret_access_key)" + _QUOTE + rb"[ \t]{0,8}[=:][ \t]{0,8}" + _QUOTE
         + rb"(?![A-Za-z0-9/+]{30}EXAMPLEKEY)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"),
    Kind("Azure storage key", (b"AccountKey=",), rb"AccountKey=[A-Za-z0-9+/]{86}=="),
    Kind("Google API key", (b"AIza",), rb"(?<![A-Za-z0-9_-])AIza[0-9A-Za-z_-]{35}(?![A-Za-z0-9_-])"),
    Kind("GitHub token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
         rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{82})\b"),
    Kind("GitLab token", (b"glpat-",), rb"\bglpat-[A-Za-z0-9_-]{20}"),
    Kind("Slack token", (b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-", b"hooks.slack.com/services/T"),
         rb"\bxox[abprs]-[0-9]{8,16}-[0-9A-Za-z-]{12}|hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{20}"),
    Kind("Stripe key", (b"sk_live_", b"rk_live_"), rb"\b[sr]k_live_[0-9A-Za-z]{20}"),
    Kind("npm token", (b"npm_", b"_authToken"),
         rb"\bnpm_[A-Za-z0-9]{36}\b|_authToken[ \t]{0,8}=[ \t]{0,8}" + _QUOTE + rb"[A-Za-z0-9_-]{20}"),
    Kind("PyPI token", (b"pypi-AgE",), rb"\bpypi-AgE[A-Za-z0-9_-]{50}"),
    Kind("key of an AI service", (b"sk-ant-", b"sk-proj-"), rb"\bsk-(?:ant|proj)-[A-Za-z0-9_-]{40}"),
    Kind("Hugging Face token", (b"hf_",), rb"\bhf_[A-Za-z]{34}\b"),
    Kind("registry login", (b'"auths"',),
         rb'"auths"\s{0,40}:\s{0,40}\{[^}]{0,500}"auth"\s{0,40}:\s{0,40}"[A-Za-z0-9+/]{12,2000}={0,2}"'),
)  # fmt: skip

_KIND_OF = tuple(number for number, kind in enumerate(KINDS) for _ in kind.words)


def kinds_in(data: bytes | memoryview) -> tuple[str, ...]:
    """The kinds of secrets that some text holds; none if it is no text."""
    if is_binary(data):  # a part of a large file is a view: to copy all of it takes longer than to look
        return ()
    data = bytes(data)
    hits = _automaton().find_matches_as_indexes(data)
    if not hits:
        return ()
    numbers = sorted({_KIND_OF[word] for word, _, _ in hits})
    return tuple(KINDS[number].name for number in numbers if _form(number).search(data))


@lru_cache(1)
def _automaton() -> BytesAhoCorasick:
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    # Leftmost: only then it looks for the words with vector instructions, eight times as fast.
    return BytesAhoCorasick([word for kind in KINDS for word in kind.words], matchkind=MatchKind.LeftmostFirst)


@lru_cache(None)
def _form(number: int) -> re.Pattern[bytes]:
    return re.compile(KINDS[number].form)
