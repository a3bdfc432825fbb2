"""Dockerfiles, read: instructions with their lines, stages in which no variable is left, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.building import dockerignore
from runtime.building.dockerignore import ContextIgnore, Rules
from runtime.building.parser import WORDS, parse
from runtime.building.patterns import compiled
from runtime.building.stages import Plan
from runtime.building.steps import CONTEXT, Copy, Directory, Origin, Run, Stage
from runtime.building.variables import split_words, substituted, substituted_raw
from runtime.system.deletion import delete_tree
from vcs.errors import BadInput
from vcs.importer import import_directory
from vcs.store import Store

BASE = {"os": "linux", "config": {"Env": ["PATH=/bin", "HOME=/root"], "Cmd": ["sh"]}}


def plan(text: str, base: dict[str, Any] | None = None, **options: Any) -> Plan:
    return Plan(parse(text.encode()), lambda *_: base or BASE, **options)


def last(text: str, **options: Any) -> Stage:
    return plan(text, **options).stages[-1]


def refused(text: str, **options: Any) -> str:
    with pytest.raises(BadInput) as found:
        plan(text, **options)
    return str(found.value)


# -- lines


def test_instructions_know_their_lines() -> None:
    found = parse(
        b"\xef\xbb\xbf# syntax=docker/dockerfile:1\r\n\n# a comment\nfrom base\n\nRUN one \\\n  # not this\n\n"
        b"  two \\\n"
        b"  three\nRUN <<A <<-'B'\na\nA\n\tb\n\tB\nCMD x\n"
    )
    assert [(one.line, one.word) for one in found.instructions] == [(4, "FROM"), (6, "RUN"), (11, "RUN"), (16, "CMD")]
    assert found.instructions[1].rest == "one   two   three"
    assert [(one.name, one.content, one.expand) for one in found.instructions[2].heredocs] == [
        ("A", "a\n", True), ("B", "b\n", False),
    ]  # fmt: skip


def test_another_escape_character() -> None:
    found = parse(b"# escape=`\nFROM base\nCOPY a `\n  c:\\dir\\\nRUN x\n")
    assert found.escape == "`"
    assert [one.rest for one in found.instructions] == ["base", "a   c:\\dir\\", "x"]


def test_an_escaped_escape_at_the_end_goes_on_nowhere() -> None:
    assert [one.rest for one in parse(b"FROM a\nRUN x\\\\\nRUN y\n").instructions] == ["a", "x\\\\", "y"]


def test_flags_and_lists() -> None:
    found = parse(b'FROM a\nCOPY --from=x --chown="a b" --link [ "a b" , "c" ]\nRUN [ not json\n').instructions
    assert found[1].flags == (("from", "x"), ("chown", "a b"), ("link", None))
    assert found[1].items == ["a b", "c"]
    assert found[2].items is None


def test_what_is_no_heredoc() -> None:
    found = parse(b"FROM a\nRUN cat <<<word && echo '<<no' \"<<no\" $((1<<2))\nRUN echo a<<b\n").instructions
    assert [one.heredocs for one in found] == [(), (), ()]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("FROM a\nRUM x\n", 2, "'RUM' is no instruction"),
        ("FROM a\nRUN\n", 2, "RUN says nothing"),
        ("FROM a\nRUN <<EOF\nx\n", 2, "<<EOF has no end"),
        ("# escape=x\nFROM a\n", 1, "the escape character"),
        ("# escape=`\n# escape=`\nFROM a\n", 2, "a second directive"),
        ("# syntax=other/frontend\nFROM a\n", 1, "the syntax 'other/frontend' is not known"),
        ("FROM a\n\nCOPY --from='x y z\n", 3, "a quote ' has no end"),
        ("RUN x\n", 1, "only ARG can be before the first FROM"),
        ("# nothing\n", 1, "there is no FROM"),
        ("FROM a b\n", 1, "write FROM NAME"),
        ("FROM a AS 1x\n", 1, "cannot be a stage's name"),
        ("FROM a AS x\nFROM b AS X\n", 2, "there is a stage 'x' already"),
        ("FROM --platform=linux/s390x a\n", 1, "the platform 'linux/s390x' is not this machine's"),
        ("FROM a\nRUN --mount=type=ssh x\n", 2, "--mount=type=ssh is not supported"),
        ("FROM a\nRUN --mount=type=cache x\n", 2, "wants target=/PATH"),
        ("FROM a\nRUN --mount=type=bind,target=/x,rw x\n", 2, "'rw' of --mount=type=bind is not supported"),
        ("FROM a\nRUN --security=insecure x\n", 2, "--security=insecure is not supported"),
        ("FROM a\nRUN --network=other x\n", 2, "--network=other is not supported"),
        ("FROM a\nRUN --device=x y\n", 2, "the flag --device is not supported"),
        ("FROM a\nCOPY --parents a b\n", 2, "the flag --parents is not supported"),
        ("FROM a\nCOPY --exclude=x a b\n", 2, "the flag --exclude is not supported"),
        ("FROM a\nCOPY --chmod=u+x a b\n", 2, "--chmod=u+x is not supported"),
        ("FROM a\nCOPY --from=1 a b\n", 2, "there is no stage '1' before this one"),
        ("FROM a\nCOPY a\n", 2, "write what is to be copied"),
        ("FROM a\nADD https://example.org/x /\n", 2, "nothing is fetched from the network"),
        ("FROM a\nADD --checksum=sha256:x a /\n", 2, "the flag --checksum is not supported"),
        ("FROM a\nONBUILD ONBUILD RUN x\n", 2, "ONBUILD cannot be in an ONBUILD"),
        ("FROM a\nONBUILD RUN --device=x y\n", 2, "the flag --device is not supported"),
        ("FROM a\nSHELL sh -c\n", 2, "write SHELL"),
        ("FROM a\nEXPOSE http\n", 2, "'http' is no port"),
        ("FROM a\nENV A=${B\n", 2, "ENV: "),
        ("FROM a\nENV A=${B%%x}\n", 2, "is not supported"),
        ("FROM a\nWORKDIR $NOTHING\n", 2, "nothing is left of '$NOTHING'"),
        ("FROM a\nHEALTHCHECK --interval=x CMD y\n", 2, "HEALTHCHECK"),
        ("FROM a\nARG 1x=2\n", 2, "cannot be a variable's name"),
        ("FROM a\nSTOPSIGNAL no such\n", 2, "is no signal"),
        ("ARG X\nFROM $X\n", 2, "write FROM NAME"),
        ("FROM a\nRUN \0\n", 2, "a NUL is in it"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(BadInput, match=f"line {line}: ") as found:
        plan(text)
    assert says in str(found.value)
    assert found.value.facts["line"] == line


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadInput, match="line 2: it is not UTF-8"):
        parse(b"FROM a\nRUN \xff\n")


_WORDS = st.sampled_from(
    [*sorted(WORDS), "\n", "\n", " ", "\\\n", "a", "/x", "$x", "${x:-", "}", '"', "'", "[", '["a"]', "<<E", "E\n",
     "--from=0", "--mount=type=cache,target=/c", "--chown=1", "AS", "x=1", "#", "# escape=`\n", "`\n", "*", "[^",
     "scratch", "\\"]
)  # fmt: skip


@given(st.lists(_WORDS, max_size=30).map(" ".join) | st.text(max_size=200) | st.lists(_WORDS, max_size=30).map("".join))
def test_any_text_is_a_plan_or_is_refused(text: str) -> None:
    with suppress(BadInput):
        assert plan("FROM base\n" + text).stages


@given(st.binary(max_size=200))
def test_any_bytes_are_a_dockerfile_or_are_refused(data: bytes) -> None:
    with suppress(BadInput):
        parse(data)


# -- variables


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("$a-${a}-$ab", "1-1-"), ("${b:-x}${a:-x}${e:-x}${e-x}", "x1x"), ("${a:+y}${e:+y}${e+y}${b+y}", "yy"),
        ("\\$a '$a' \"$a\" \"\\$a\\\\\"", "$a $a 1 $a\\"), ("${b:-${a}'}'}", "1}"), ("$", "$"), ("a$-", "a$-"),
        ("$1x", "x"), ("\\a\"\\a\"", "a\\a"), ("", ""),
    ],
)  # fmt: skip
def test_variables(text: str, means: str) -> None:
    assert substituted(text, {"a": "1", "e": ""}) == means


@pytest.mark.parametrize("text", ["'a", '"a', "${a", "${", "${a:=b}", "${a#x}", "${b:?no}", "${" * 50])
def test_variables_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        substituted(text, {"a": "1"})


def test_quotes_mean_nothing_in_a_heredoc() -> None:
    assert substituted_raw("'$a' \"$a\" \\$a \\x it's", {"a": "1"}) == "'1' \"1\" $a \\x it's"


def test_words() -> None:
    assert split_words("a='b c' \"d e\"f g\\ h ''") == ["a='b c'", '"d e"f', "g\\ h", "''"]


# -- stages


def test_only_what_the_target_needs_is_planned() -> None:
    found = plan("FROM a AS x\nFROM b AS y\nCOPY --from=x /a /b\nFROM c\nRUN z\nFROM y AS t\n", target="y")
    assert [stage.title for stage in found.stages] == ["x", "y"]
    assert found.stages[1].steps[0].work == Copy(("/a",), "/b", Origin(stage=0))
    assert [stage.title for stage in plan("FROM a\nFROM 0\n").stages] == ["1"]
    assert "no stage 'z'" in refused("FROM a\n", target="z")


def test_arguments_are_global_or_of_a_stage() -> None:
    text = "ARG A=1\nARG B=2\nFROM base\nARG A\nARG C=$A$B\nARG D\nENV X=$A.$B.$C.$D\nRUN y\nENV A=env\nRUN z\n"
    stage = last(text, arguments={"D": "given", "B": "b"})
    assert "X=1..1.given" in stage.config["config"]["Env"]
    first, second = (step.work for step in stage.steps if isinstance(step.work, Run))
    assert first.env == ("A=1", "C=1", "D=given")
    assert second.env == ("C=1", "D=given")


def test_proxies_need_no_arg_and_unused_arguments_are_told() -> None:
    found = plan("FROM base\nRUN x\n", arguments={"http_proxy": "p", "TYPO": "1"})
    work = found.stages[0].steps[0].work
    assert isinstance(work, Run)
    assert (work.env, work.proxies, found.unused) == ((), ("http_proxy=p",), ["TYPO"])


def test_the_config_is_known_before_anything_runs() -> None:
    stage = last(
        'FROM base\nENV A=1 B="x y"\nLABEL "a b"=c d=$A\nEXPOSE 80 ${A}1/udp\nVOLUME /v ["/w"]\nVOLUME ["/x"]\n'
        "USER ana:$A\n"
        'WORKDIR /a\nWORKDIR b/$A\nCMD echo\nENTRYPOINT ["e"]\nSTOPSIGNAL SIGINT\nSHELL ["bash", "-c"]\nCMD x\n'
        "HEALTHCHECK --interval=5s CMD ok\nONBUILD COPY a b\nMAINTAINER Ada\n"
    )
    config = stage.config["config"]
    assert config["Env"] == ["PATH=/bin", "HOME=/root", "A=1", "B=x y"]
    assert config["Labels"] == {"a b": "c", "d": "1"}
    assert config["ExposedPorts"] == {"80/tcp": {}, "11/udp": {}}
    assert config["User"] == "ana:1"
    assert config["WorkingDir"] == "/a/b/1"
    assert config["Entrypoint"] == ["e"]
    assert config["Cmd"] == ["bash", "-c", "x"]
    assert config["Healthcheck"] == {"Interval": 5 * 10**9, "Test": ["CMD-SHELL", "ok"]}
    assert config["OnBuild"] == ["COPY a b"]
    assert config["StopSignal"] == "SIGINT"
    assert stage.config["author"] == "Ada"
    assert [step.work for step in stage.steps if step.instruction.word == "WORKDIR"] == [
        Directory("/a"), Directory("/a/b/1"),
    ]  # fmt: skip


def test_an_entrypoint_drops_an_inherited_cmd_only() -> None:
    assert "Cmd" not in last("FROM base\nENTRYPOINT e\n").config["config"]
    assert last("FROM base\nCMD c\nENTRYPOINT e\n").config["config"]["Cmd"] == ["/bin/sh", "-c", "c"]


def test_triggers_come_first_and_are_gone_then() -> None:
    base = {"config": {"OnBuild": ["ARG V=1", "RUN echo $V", "ENV T=1"]}}
    stage = plan("FROM base\nRUN x\n", base).stages[0]
    assert [step.instruction.source for step in stage.steps] == ["RUN echo $V", "ENV T=1", "RUN x"]
    assert all("OnBuild" not in step.config["config"] for step in stage.steps)
    assert stage.steps[0].instruction.line == 1


def test_heredocs_are_scripts_files_or_input() -> None:
    stage = last(
        "FROM base\nENV A=1\nRUN <<E\necho $A\nE\nRUN cat <<E > /x\nhi\nE\n"
        "RUN <<E\n#!/usr/bin/env python3\nprint()\nE\n"
        "COPY <<one <<'two' src /d/\n$A\none\n$A\ntwo\n"
    )
    script, piped, program, copy = (step.work for step in stage.steps if step.work)
    assert isinstance(script, Run)
    assert script.args == ("/bin/sh", "-c", "echo $A\n")
    assert isinstance(piped, Run)
    assert piped.args == ("/bin/sh", "-c", "cat <<E > /x\nhi\nE\n")
    assert isinstance(program, Run)
    assert program.script == b"#!/usr/bin/env python3\nprint()\n"
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.origin) == (("src",), CONTEXT)
    assert [(file.name, file.content) for file in copy.files] == [("one", b"1\n"), ("two", b"$A\n")]


def test_mounts() -> None:
    stage = last(
        "FROM base AS x\nFROM base\nENV P=/p\nRUN --mount=type=cache,target=$P,sharing=locked,uid=5,mode=0700 "
        "--mount=type=secret,id=tok --mount=type=secret,id=s,dst=/s,required=true,mode=0440 "
        "--mount=type=tmpfs,target=/t,size=64m --mount=from=x,source=a,target=/b y\n"
    )
    work = stage.steps[-1].work
    assert isinstance(work, Run)
    cache, token, other, tmpfs, bind = work.mounts
    assert (cache.target, cache.id, cache.sharing, cache.uid, cache.mode) == ("/p", "/p", "locked", 5, 0o700)
    assert (token.target, token.mode, token.required, token.read_only) == ("/run/secrets/tok", 0o400, False, True)
    assert (other.target, other.mode, other.required) == ("/s", 0o440, True)
    assert (tmpfs.target, tmpfs.size) == ("/t", "64m")
    assert (bind.kind, bind.origin, bind.source, bind.target) == ("bind", Origin(stage=0), "/a", "/b")


# -- patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.txt", ["a.txt", ".txt"], ["a/b.txt", "a.txtx"]), ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "-x"]), ("[^a]x", ["bx"], ["ax", "/x"]), ("\\*", ["*"], ["a"]),
        ("a.b", ["a.b"], ["axb"]), ("**", ["*"[:0], "abc"], ["a/b"]), ("[]]", ["]"], ["a"]),
    ],
)  # fmt: skip
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    found = compiled(pattern)
    assert [one for one in (*matching, *others) if found.fullmatch(one)] == matching


@pytest.mark.parametrize("pattern", ["[", "[a", "a\\", "[b-a]"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compiled(pattern)


@pytest.mark.parametrize(
    ("rules", "out", "stays"),
    [
        (["*.log"], ["a.log"], ["b/a.log"]), (["**/*.log"], ["a.log", "b/c/a.log"], ["a.logs"]),
        (["dir"], ["dir", "dir/a/b"], ["b/dir"]), (["/dir/"], ["dir/x"], ["direct"]),
        (["*", "!keep", "!d/x"], ["a", "d/y"], ["keep", "keep/this", "d/x"]),
        (["d/*", "!d/a.md", "d/a.md"], ["d/a.md"], ["d"]), (["a/**/z"], ["a/z", "a/b/c/z"], ["z"]),
        (["# x", "", "  b  "], ["b"], ["# x"]), (["./a/../b"], ["b"], ["a"]),
    ],
)  # fmt: skip
def test_rules(rules: list[str], out: list[str], stays: list[str]) -> None:
    found = Rules(rules)
    assert [one for one in (*out, *stays) if found.leaves_out(one)] == out


def test_a_wrong_rule_is_told_with_its_line() -> None:
    with pytest.raises(BadInput, match=r"\.dockerignore, line 2: '\[' has a \["):
        Rules(["a", "["])


def test_a_directory_stays_if_something_in_it_is_taken_in_again(tmp_path: Path) -> None:
    for name in ("a/b/keep", "c/d/other"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    ignore = ContextIgnore(rules=Rules(["*", "!**/keep"]), wanted=("",), top=bytes(tmp_path))
    assert not ignore.leaves_out(b"/a", True)
    assert not ignore.leaves_out(b"/a/b", True)
    assert ignore.leaves_out(b"/c", True)
    assert not ignore.leaves_out(b"/a/b/keep", False)


@given(st.lists(st.sampled_from(["a", "!a", "a/b", "!a/b", "**/c", "!**/c", "*", "!b/*"]), max_size=5), st.data())
def test_what_was_asked_before_changes_nothing(rules: list[str], data: st.DataObject) -> None:
    paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
    found = Rules(rules)
    for path in data.draw(st.lists(paths, max_size=12)):
        assert found.leaves_out(path) == Rules(rules).leaves_out(path)


def counted(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> list[int]:
    """A list that gets longer with each call of a function from now on."""
    calls: list[int] = []
    real = getattr(where, name)

    def call(*args: object) -> object:
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(where, name, call)
    return calls


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Path]:
    """A directory that may get deeper than pytest can remove: shutil.rmtree calls itself for each level."""
    path = tmp_path / "context"
    path.mkdir()
    yield path
    delete_tree(path)


@pytest.mark.parametrize(("name", "depth"), [("d", 1200), ("d" * 255, 40)])
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_deep_context(
    context: Path, tmp_path: Path, name: str, depth: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deeper than functions may call themselves, or paths be long: each directory is looked at a few times at most."""
    here = os.open(context, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    listed, matched = counted(monkeypatch, dockerignore, "list_names"), counted(monkeypatch, Rules, "_matched")
    ignore = ContextIgnore(rules=Rules([name, "!**/leaf" if is_kept else "!other"]), wanted=("",), top=bytes(context))
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            root = import_directory(batch, context, ignore=ignore).root
        paths = {path for path, _ in store.snapshot(root).walk()}
    assert (b"/".join([b"", *[name.encode()] * depth, b"leaf"]) in paths) == is_kept
    assert len(listed) <= depth
    assert len(matched) < 5 * depth


def test_only_what_is_named_is_taken_from_a_context() -> None:
    ignore = ContextIgnore(wanted=("src/lib", "README"))
    assert not ignore.leaves_out(b"/src", True)
    assert ignore.leaves_out(b"/src/other", True)
    assert not ignore.leaves_out(b"/src/lib/x", False)
    assert ignore.leaves_out(b"/secret", False)
