"""File contents by seed: they compress about as well as the real thing does, and repeat themselves no more.

Words are drawn anew for each file. Files cut out of one prepared text would share long runs with one another, which
real ones do not, and whoever compresses many files as one would gain from it.
"""

from __future__ import annotations

import random
from itertools import accumulate

_ONSETS = "b br c ch d f g gr h j k l m n p pr r s st t tr v w".split(" ")  # noqa: SIM905
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "io", "ou")
_CODAS = ("", "", "", "n", "r", "s", "t", "l", "nd", "ck", "m")
_SIGNS = ("(", ")", "):\n        ", ", ", " = ", ".", "\n    ", "\n\n", "[", "]", " + ", '"', "_", ";\n", "{", "}")
_KEYWORDS = ("return ", "if ", "for ", "else ", "import ", "def ", "const ", "self", "not ", "None", "while ", "0", "1")


class Content:
    """A source of file contents. The same seed and the same calls give the same bytes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        known: dict[str, None] = {}
        while len(known) < 12_000:  # the frequent words come first, and are short
            known[self._syllables(1 + len(known) // 400 if len(known) < 1_200 else self.random.randint(2, 4))] = None
        self.words = list(known)
        # Zipf's law: the n-th word of a language is about 1/n as frequent as the first.
        self._weights = list(accumulate(1 / (rank + 3) for rank in range(len(self.words))))
        self._preambles = [self.prose(self.random.randint(300, 1_200)) for _ in range(24)]

    def _syllables(self, count: int) -> str:
        pick = self.random.choice
        return "".join(pick(_ONSETS) + pick(_VOWELS) + pick(_CODAS) for _ in range(count))

    def word(self) -> str:
        """Any word, each as likely."""
        return self.random.choice(self.words)

    def prose(self, size: int) -> bytes:
        """Text in lines of twelve words."""
        words = self.random.choices(self.words, cum_weights=self._weights, k=size // 5 + 12)
        lines = [" ".join(words[at : at + 12]) for at in range(0, len(words), 12)]
        return "\n".join(lines).encode()[:size]

    def source(self, size: int) -> bytes:
        """A program: few names, used again and again. The first lines are often those of other files: a license."""
        names = self.random.choices(self.words, k=20 + size // 200)
        tokens = [*names, *_KEYWORDS, *_SIGNS, *_SIGNS]
        text = "".join(self.random.choices(tokens, k=size // 3 + 8)).encode()
        preamble = self.random.choice(self._preambles) if size > 1_500 and self.random.random() < 0.4 else b""
        return (preamble + text)[:size]

    def table(self, size: int) -> bytes:
        """Records: the same keys with other values, as JSON or a list of checksums has them."""
        keys = self.random.choices(self.words, k=4)
        lines = []
        length = 0
        while length < size:
            bits = self.random.getrandbits
            values = (bits(20), f'"{bits(64):016x}"', f'"{self.word()} {self.word()}"', bits(1))
            line = "{" + ", ".join(f'"{key}": {value}' for key, value in zip(keys, values, strict=True)) + "}\n"
            lines.append(line)
            length += len(line)
        return "".join(lines).encode()[:size]

    def noise(self, size: int) -> bytes:
        """What is compressed already: an image, an archive."""
        return self.random.randbytes(size)
