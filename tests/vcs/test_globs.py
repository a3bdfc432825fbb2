"""Patterns that would take for ever: they match what they did, and at once."""

from __future__ import annotations

import random
import re
import warnings

import pytest
from pathspec import GitIgnoreSpec

from runtime.building.dockerignore import Rules
from vcs.errors import BadInput
from vcs.ignore import Patterns, committed

_PARTS = ("*", "*", "a", "b", "/", "?", "[ab]", "[!a]", "**/", r"\*", ".", "[a-b]")


def test_no_pattern_matches_anything_else_than_before() -> None:
    chance = random.Random(1)
    matched = 0
    for _ in range(10_000):
        text = "".join(chance.choice(_PARTS) for _ in range(chance.randrange(1, 8)))
        try:
            (pattern,) = GitIgnoreSpec.from_lines([text]).patterns
        except ValueError:
            continue
        if pattern.include is None:
            continue
        path = "".join(chance.choice("aab/*.") for _ in range(chance.randrange(1, 9)))
        expected = pattern.match_file(path) is not None
        assert pattern.regex is not None
        assert bool(re.search(committed(pattern.regex.pattern), path)) == expected, (text, path)
        matched += expected
    assert matched > 500


@pytest.mark.parametrize(
    "text", ["*a" * 20 + "b", "*" * 40 + "b", "*[a]*?" * 10 + "b", "x/" + "*a" * 20 + "b/y", "*" * 30 + "b**/c"]
)
def test_stars_upon_stars_take_no_time(text: str) -> None:
    """Whole ages, without it: the suite's own limit would end the test."""
    path = "x/" + "a" * 250
    assert Patterns([("here", text)]).decide(path, False) is None
    assert not Rules([text]).leaves_out(path)


def test_a_range_that_is_none_is_refused_and_nobody_is_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadInput, match="not a pattern"):
            Patterns([("here", "[a-0]")])
        Patterns([("here", "[[a]")])
        rules = Rules(["[+--]", "[--0]x", r"[\]-a]y"])
        assert rules.leaves_out("-x")
        assert rules.leaves_out("^y")
