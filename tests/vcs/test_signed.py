"""Signatures in the bytes of commits and tags."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.collecting import NOW, author, write
from vcs.check import check
from vcs.collect import collect
from vcs.signed import signature_of, split_tag, with_signature, without_signature
from vcs.store import Store
from vcs.usage import statistics

_LINE = st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"\n", b"").replace(b"\0", b"") or b"x")
_MESSAGE = st.lists(_LINE | st.just(b"") | st.just(b"gpgsig x") | st.just(b" x"), max_size=5).map(b"\n".join)


@st.composite
def commits(draw: st.DrawFn) -> bytes:
    parents = draw(st.lists(st.just(b"parent " + b"2" * 40), max_size=3))
    more = draw(st.lists(_LINE.map(lambda line: b"extra " + line), max_size=2))
    header = [b"tree " + b"1" * 40, *parents, b"author A <a> 1 +0000", b"committer A <a> 1 +0000", *more]
    return b"\n".join(header) + b"\n\n" + draw(_MESSAGE)


@given(commits(), st.lists(_LINE, max_size=4))
def test_a_signed_commit_without_its_signature_is_the_unsigned_one(commit: bytes, lines: list[bytes]) -> None:
    signature = b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----"]) + b"\n"
    signed = with_signature(commit, signature)
    assert signed != commit
    assert without_signature(signed) == commit
    assert signature_of(signed) == signature
    assert without_signature(commit) == commit
    assert signature_of(commit) is None


@given(_MESSAGE, st.lists(_LINE, max_size=4))
def test_a_tag_is_cut_where_its_last_signature_begins(message: bytes, lines: list[bytes]) -> None:
    tag = b"object 1\ntype commit\ntag v\ntagger A <a> 1 +0000\n\n" + message + b"\n"
    signature = b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----"]) + b"\n"
    assert split_tag(tag + signature) == (tag, signature)
    assert split_tag(tag) == (tag, None)


def test_what_the_store_writes_is_the_unsigned_commit_and_a_signature(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        root = write(store, {"a": b"1"})
        who = author()
        plain = store.add_commit(root, {}, "words\n\nContainer: web\n", who)
        seen: list[bytes] = []

        def sign(data: bytes) -> bytes:
            seen.append(data)
            return b"-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----\n"

        store.sign = sign
        signed = store.add_commit(root, {}, "words\n\nContainer: web\n", who)
        assert seen == [store.history.raw(plain)] == [without_signature(store.history.raw(signed))]
        before, after = store.commit(plain), store.commit(signed)
        assert (before.root, before.message, before.time) == (after.root, after.message, after.time)


def test_gc_leaves_alone_what_is_being_signed(tmp_path: Path) -> None:
    """A key may ask somebody, and that takes time: nothing names the commit's tree meanwhile."""
    path = tmp_path / "store"
    with Store.create(path) as store:
        root = write(store, {"a": b"1"})

        def sign(_: bytes) -> bytes:
            with Store.open(path) as other:
                collect(other, since=NOW)
                assert statistics(other).commits == 0
            return b"-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----\n"

        store.sign = sign
        with store.writing() as lease:
            lease.root(root)
            made = store.add_commit(root, {"config": {"Cmd": ["only here"]}}, "words\n", author())
            store.history.move("refs/heads/main", made, None, "made", author())
        assert store.history.config(made) == {"config": {"Cmd": ["only here"]}}
        assert check(store).problems == []
