"""What counts as a secret, and which files it is told of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.secrets import Finding, Policy, SecretWatch, policy_of
from runtime.secrets.patterns import KINDS, kinds_in
from tests.support.values import Spec, file, root
from vcs.blobs import BlobWriter
from vcs.errors import BadInput, SecretsFound
from vcs.model import RootId
from vcs.store import Store

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n" * 3
"""Put together here, so that no search for secrets stumbles over this file."""
A40 = "x7Kq2mNp9RtVw4Zc8BdF1gHj3LsAyE5uQoI6nTbX"


def key(kind: str, head: str = "\n") -> bytes:
    begin, end = (f"-----{word} {kind}PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return f"{begin}{head}{BODY}{end}\n".encode()


SECRETS = {
    "private key": [
        key(""),
        key("RSA "),
        key("OPENSSH "),
        key("RSA ", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n"),
        key("EC ", "\r\n"),
        key("PGP ").replace(b"KEY-----", b"KEY BLOCK-----"),
        json.dumps({"type": "service_account", "private_key": key("").decode()}).encode(),
    ],
    "PuTTY private key": [b"PuTTY-User-Key-" + b"File-3: ssh-ed25519\nPublic-Lines: 1\nAA\nPrivate-Lines: 1"],
    "age private key": [b"AGE-SECRET-" + b"KEY-1" + b"Q" * 58],
    "AWS access key": [b"id = AK" + b"IA" + b"Q3EGRX2T7PLMNZ5K", b"AS" + b"IA" + b"Q3EGRX2T7PLMNZ5K\n"],
    "AWS secret key": [f"aws_secret_access_key = {A40}".encode(), f'AWS_SECRET_ACCESS_KEY="{A40}"'.encode()],
    "Azure storage key": [b"AccountName=a;Account" + b"Key=" + b"Ab1/" * 21 + b"Ab==;"],
    "Google API key": [b'"AI' + b"za" + A40[:35].encode() + b'"'],
    "GitHub token": [b"gh" + b"p_" + A40[:36].encode(), b"github_" + b"pat_" + (A40 * 3)[:82].encode()],
    "GitLab token": [b"gl" + b"pat-" + A40[:20].encode()],
    "Slack token": [
        b"xo" + b"xb-123456789012-" + A40[:24].encode(),
        b"https://hooks.slack.com/" + b"services/T12345678/B12345678/" + A40[:24].encode(),
    ],
    "Stripe key": [b"sk_" + b"live_" + A40[:24].encode()],
    "npm token": [b"np" + b"m_" + A40[:36].encode(), b"//registry.example.org/:_auth" + b"Token=" + A40.encode()],
    "PyPI token": [b"pypi-" + b"AgE" + (A40 * 2)[:60].encode()],
    "key of an AI service": [b"sk-" + b"ant-" + A40.encode() + b"-x"],
    "Hugging Face token": [b"h" + b"f_" + b"AbCdEfGhIj" * 3 + b"KlMn"],
    "registry login": [json.dumps({"auths": {"example.org": {"auth": "dXNlcjpwYXNzd29yZA=="}}}, indent=2).encode()],
}  # fmt: skip
INNOCENT = (
    b"-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    b"-----BEGIN PUBLIC KEY-----\n" + BODY.encode(),
    b"the text between -----BEGIN RSA PRIVATE KEY----- and -----END RSA PRIVATE KEY----- is encoded",
    b"AWS_ACCESS_KEY_ID=AKIA"
    + b"IOSFODNN7EXAMPLE aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCY"
    + b"EXAMPLEKEY",
    b"xAKIA" + b"Q3EGRX2T7PLMNZ5K",
    b"npm_config_cache npm_package_name_is_a_rather_long_variable_of_npm",
    b"//registry.example.org/:_authToken=${NPM_TOKEN}",
    b"hf_hub_download ghp_ sk_live_ glpat- AIza",
    b'{"auths": {"registry.example.org": {}}}',
    b"",
)


def test_every_kind_has_an_example() -> None:
    assert SECRETS.keys() == {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "secret"), [(kind, secret) for kind, secrets in SECRETS.items() for secret in secrets]
)
def test_a_secret_is_found(kind: str, secret: bytes) -> None:
    for text in (secret, b"before\n" + secret + b"\nafter", memoryview(secret)):
        assert kinds_in(text) == (kind,)
    assert kinds_in(b"\0" + secret) == ()


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_one_is_none(text: bytes) -> None:
    assert kinds_in(text) == ()


@given(st.lists(st.sampled_from([word for kind in KINDS for word in kind.words]) | st.binary(max_size=40), max_size=30))
def test_any_bytes_may_be_looked_at(parts: list[bytes]) -> None:
    assert set(kinds_in(b"".join(parts))) <= {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    "piece", [b"-----BEGIN PRIVATE KEY-----", b"A: b\n", b" ", b"\\n", b'"auths":{', b"PuTTY-User-Key-File-2: "]
)
def test_repetition_is_not_slow(piece: bytes) -> None:
    """An expression that is not bounded would take hours."""
    text = b"-----BEGIN PRIVATE KEY-----" + piece * ((512 << 10) // len(piece))
    assert kinds_in(text) == ()


# -- files


def watched(store: Store, spec: Spec, policy: Policy, before: RootId | None = None) -> tuple[Finding, ...]:
    with store.batch() as batch:
        watch = SecretWatch(store, batch, policy)
        now = root(watch, spec)
        watch.refuse(before, now)
    return watch.findings(before, now)


def test_files_are_named(tmp_path: Path) -> None:
    secret, more = SECRETS["private key"][0], SECRETS["GitHub token"][0]
    spec: Spec = {"etc": {"key": secret, "none": b"x"}, "home": {"copy": secret, "token": secret + more}}
    with Store.create(tmp_path / "store") as store:
        expected = (
            Finding(b"/etc/key", ("private key",)),
            Finding(b"/home/copy", ("private key",)),
            Finding(b"/home/token", ("private key", "GitHub token")),
        )
        assert watched(store, spec, "off") == ()
        assert watched(store, spec, "warn") == expected
        with store.batch() as batch:
            before = root(batch, {"etc": {"key": secret, "none": secret}, "home": {"old": secret}})
        later = watched(store, spec, "warn", before)
        assert [finding.path for finding in later] == [b"/home/token"], "the copy was renamed, and the key was there"


def test_a_large_file_is_looked_at_by_chunks(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            watch = SecretWatch(store, batch, "warn")
            writer = BlobWriter(watch)
            writer.feed(b"a line of a log\n" * 60_000 + SECRETS["Stripe key"][0])
            now = root(watch, {"log": file(writer.finish())})
        assert watch.findings(None, now) == (Finding(b"/log", ("Stripe key",)),)


def test_a_refusal_stores_nothing(tmp_path: Path) -> None:
    """And names the file, and what it is, but not the secret."""
    secret = SECRETS["GitLab token"][0]
    with Store.create(tmp_path / "store") as store:
        with pytest.raises(SecretsFound) as caught:
            watched(store, {"a": {"b": secret}, "c": secret}, "refuse")
        assert caught.value.facts == {"files": [(b"/a/b", ["GitLab token"]), (b"/c", ["GitLab token"])]}
        assert "/a/b" in str(caught.value)
        assert "1 more" in str(caught.value)
        assert secret.decode() not in str(caught.value)
        assert not list((tmp_path / "store/layers").iterdir())
        assert watched(store, {"a": b"x"}, "refuse") == ()


def test_the_policy_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "store/history.git/config"
    with Store.create(tmp_path / "store") as store:
        assert policy_of(store.history) == "warn"
    for policy in ("warn", "refuse", "off", "maybe"):
        with config.open("a") as lines:
            lines.write(f"[treering]\n\tsecrets = {policy}\n")
        with Store.open(tmp_path / "store") as store:
            if policy == "maybe":
                with pytest.raises(BadInput, match="maybe"):
                    policy_of(store.history)
            else:
                assert policy_of(store.history) == policy
