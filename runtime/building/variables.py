"""Words of a Dockerfile with quotes taken off and variables put in. Pure.

    $name ${name} ${name:-word} ${name-word} ${name:+word} ${name+word} ${name:?error} ${name?error}
    'as it is'   "with variables"   \\x is x

The word in ${name:-word} is looked at in the same way. What has no value is empty.
"""

from __future__ import annotations

from collections.abc import Mapping

_SPECIAL = frozenset('"$')
_DEPTH = 40


def substituted(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """A text as one word. ValueError if a quote or a brace has no end.

    >>> substituted("a-$x${y:-'b c'}\\\\$x", {"x": "1"})
    'a-1b c$x'
    """
    return "".join(_Words(text, variables, escape).word(""))


def substituted_raw(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The same for a text in which quotes mean nothing: a heredoc's."""
    return "".join(_Words(text, variables, escape, raw=True).word(""))


def split_words(text: str, escape: str = "\\") -> list[str]:
    """The words of a text, quotes and escapes left in them. ValueError if a quote has no end.

    >>> split_words("a='b c' d\\\\ e")
    ["a='b c'", 'd\\\\ e']
    """
    words: list[str] = []
    word, quote, at, begun = "", "", 0, False
    while at < len(text):
        character = text[at]
        if character == escape and quote != "'" and at + 1 < len(text):
            word, begun, at = word + text[at : at + 2], True, at + 2
            continue
        if character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        if character.isspace() and not quote:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + character, True
        at += 1
    if quote:
        raise ValueError(f"a quote {quote} has no end")
    return [*words, word] if begun else words


class _Words:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, raw: bool = False) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._raw = raw
        self._at = 0
        self._depth = 0

    def word(self, stop: str) -> list[str]:
        """Up to a character, which is passed; or to the end, if none is given. ValueError if it does not come."""
        done: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == stop:
                self._at += 1
                return done
            if character == "$":
                done.append(self._variable())
            elif character == self._escape:
                done.append(self._escaped(self._raw))
            elif character == "'" and not self._raw:
                end = self._text.find("'", self._at + 1)
                if end < 0:
                    raise ValueError("a quote ' has no end")
                done.append(self._text[self._at + 1 : end])
                self._at = end + 1
            elif character == '"' and not self._raw:
                self._at += 1
                done += self._quoted()
            else:
                done.append(character)
                self._at += 1
        if stop:
            raise ValueError(f"a {stop} is missing")
        return done

    def _quoted(self) -> list[str]:
        done: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == '"':
                self._at += 1
                return done
            if character == "$":
                done.append(self._variable())
            elif character == self._escape:
                done.append(self._escaped(keep=True))
            else:
                done.append(character)
                self._at += 1
        raise ValueError('a quote " has no end')

    def _escaped(self, keep: bool) -> str:
        """What an escape character and the one after it are. `keep`: only what is special is escaped here."""
        following = self._text[self._at + 1 : self._at + 2]
        self._at += 2
        if not following or (keep and following not in _SPECIAL and following != self._escape):
            return self._escape + following
        return following

    def _variable(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._at += 1
        name = self._name()
        if not name:
            raise ValueError("${ is followed by no name")
        rest = self._text[self._at : self._at + 2]
        if rest[:1] == "}":
            self._at += 1
            return self._variables.get(name, "")
        colon = rest[:1] == ":"
        how = rest[1:] if colon else rest[:1]
        if how not in ("-", "+", "?") or not how:
            raise ValueError(f"${{{name}{rest} is not supported: :-, :+ and :? are")
        self._at += 1 + colon
        self._depth += 1
        if self._depth > _DEPTH:
            raise ValueError("too many ${ in one another")
        word = "".join(self.word("}"))
        self._depth -= 1
        value = self._variables.get(name)
        is_set = bool(value) if colon else value is not None
        if how == "+":
            return word if is_set else ""
        if how == "?" and not is_set:
            raise ValueError(f"{name} has no value{': ' + word if word else ''}")
        return value or "" if is_set else word

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and (
            (character := self._text[self._at]) == "_" or (character.isascii() and character.isalnum())
        ):
            self._at += 1
            if self._at == start + 1 and character.isdigit():
                break
        return self._text[start : self._at]
