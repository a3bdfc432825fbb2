"""Commits and tags that are signed, by our own commands and by stock git's judgement."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@dataclass(frozen=True)
class Keys:
    """Keys, and who is who."""

    directory: Path

    def make(self, name: str) -> Path:
        path = self.directory / name
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path))
        return path

    def allow(self, *names: str, options: str = 'namespaces="git"') -> Path:
        path = self.directory / "allowed"
        keys = {name: (self.directory / f"{name}.pub").read_text().strip() for name in names}
        path.write_text("".join(f"{name}@example.org {options} {key}\n" for name, key in keys.items()))
        return path


@pytest.fixture
def keys(cli: Cli, tmp_path: Path) -> Keys:
    return set_up_keys(cli, tmp_path / "keys")


def set_up_keys(cli: Cli, directory: Path) -> Keys:
    """Ada signs, and her key is known."""
    directory.mkdir()
    made = Keys(directory)
    made.make("ada")
    configure(cli, "gpg.format", "ssh")
    configure(cli, "user.signingKey", str(directory / "ada"))
    configure(cli, "gpg.ssh.allowedSignersFile", str(made.allow("ada")))
    return made


def _run(*words: str, code: int = 0, **settings: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **settings)  # type: ignore[call-overload]
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done


def git(cli: Cli, *words: str, code: int = 0) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cli.store.parent), "GIT_CONFIG_SYSTEM": "/dev/null"}
    command = ("git", "-c", "safe.directory=*", "-C", str(cli.store / "history.git"), *words)
    done = _run(*command, code=code, env=environment)
    return done.stdout + done.stderr


def configure(cli: Cli, key: str, value: str) -> None:
    git(cli, "config", key, value)


def make(cli: Cli, *words: str) -> str:
    """A commit on main, by an import; its id."""
    root = cli.store.parent / "made"
    (root / "etc").mkdir(parents=True, exist_ok=True)
    value: str = cli.json("import", str(root), "--allow-empty", "-m", "made", *words)["commit"]
    return value


def worth(cli: Cli, revision: str = "main") -> str:
    (row,) = cli.json("verify-commit", revision, code=0 if git_says_good(cli, revision) else 1)
    return str(row["worth"])


def git_says_good(cli: Cli, revision: str) -> bool:
    command = ["git", "-c", "safe.directory=*", "-C", str(cli.store / "history.git"), "verify-commit", revision]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def test_a_commit_is_signed_and_stock_git_agrees(cli: Cli, keys: Keys) -> None:
    made = make(cli, "--sign")
    (row,) = cli.json("verify-commit", made)
    assert (row["commit"], row["worth"], row["principal"]) == (made, "good", "ada@example.org")
    assert 'Good "git" signature for ada@example.org' in git(cli, "verify-commit", made)
    assert row["key"].removeprefix("ED25519 ") in git(cli, "verify-commit", made)
    for text in (cli("show", "main").stdout, cli("log", "--show-signature", "-n", "1", "main").stdout):
        assert f"Signature: good, by ada@example.org, {row['key']}\n" in text
    assert "Signature" not in cli("log", "main").stdout
    assert cli.json("show", "main")["signature"]["worth"] == "good"
    signatures = [found and found["worth"] for found in (
        entry["signature"] for entry in cli.json("log", "--show-signature", "main"))]  # fmt: skip
    assert signatures == ["good", None, None]
    cli("fsck")


def test_what_is_not_signed_is_said_to_be_so(cli: Cli, keys: Keys) -> None:
    make(cli)
    assert worth(cli) == "none"
    assert cli.json("show", "main")["signature"] is None
    make(cli, "--sign")
    rows = cli.json("verify-commit", "main", "main~1", code=1)
    assert [row["worth"] for row in rows] == ["good", "none"]


def test_config_signs_and_an_option_says_otherwise(cli: Cli, keys: Keys) -> None:
    configure(cli, "commit.gpgSign", "true")
    make(cli)
    assert worth(cli) == "good"
    make(cli, "--no-sign")
    assert worth(cli) == "none"
    bob = keys.make("bob")
    make(cli, "--key", str(bob))
    assert worth(cli) == "unknown", "it fits, and nobody says whose it is"
    assert "Signature: unknown, ED25519 SHA256:" in cli("show", "main").stdout
    keys.allow("ada", "bob")
    assert worth(cli) == "good"
    configure(cli, "commit.gpgSign", "false")
    make(cli)
    assert worth(cli) == "none"


def test_a_config_that_asks_for_another_format_only_warns(cli: Cli, keys: Keys) -> None:
    """Who signs with PGP elsewhere has his containers committed as before, and is told."""
    configure(cli, "commit.gpgSign", "true")
    configure(cli, "gpg.format", "openpgp")
    root = cli.store.parent / "made"
    root.mkdir()
    assert "not signed" in cli("import", str(root), "--allow-empty").stderr
    assert worth(cli) == "none"
    assert cli.error("import", str(root), "--allow-empty", "--sign")["kind"] == "BadInput"


def test_a_changed_commit_is_bad(cli: Cli, keys: Keys) -> None:
    made = make(cli, "--sign")
    data = git(cli, "cat-file", "commit", made).replace("\nmade\n", "\nmade by somebody else\n")
    assert "somebody else" in data
    file = cli.store.parent / "forged"
    file.write_text(data)
    forged = git(cli, "hash-object", "-t", "commit", "-w", str(file)).strip()
    assert worth(cli, forged) == "bad"
    row = cli.json("verify-commit", forged, code=1)[0]
    assert (row["principal"], row["key"]) == (None, None)
    assert "incorrect signature" in row["reason"]


def test_a_signature_for_another_purpose_is_bad(cli: Cli, keys: Keys) -> None:
    """One that the same key made of the same bytes, but of a file."""
    made = make(cli)
    data = git(cli, "cat-file", "commit", made)
    plain = cli.store.parent / "plain"
    plain.write_text(data)
    _run("ssh-keygen", "-Y", "sign", "-n", "file", "-f", str(keys.directory / "ada"), str(plain))
    header, _, text = data.partition("\n\n")
    signature = (cli.store.parent / "plain.sig").read_text().rstrip().replace("\n", "\n ")
    plain.write_text(f"{header}\ngpgsig {signature}\n\n{text}")
    forged = git(cli, "hash-object", "-t", "commit", "-w", str(plain)).strip()
    assert worth(cli, forged) == "bad"


def test_keys_have_a_term_and_can_be_withdrawn(cli: Cli, keys: Keys) -> None:
    make(cli, "--sign")
    keys.allow("ada", options='valid-before="20200101"')
    assert worth(cli) == "unknown", "it was not hers to sign with any more"
    keys.allow("ada")
    configure(cli, "gpg.ssh.revocationFile", str(keys.directory / "ada.pub"))
    assert worth(cli) == "bad"


def test_a_tag_is_signed(cli: Cli, keys: Keys) -> None:
    cli("tag", "-s", "-m", "a release", "v2", "main")
    assert cli.json("verify-tag", "v2")[0]["principal"] == "ada@example.org"
    assert 'Good "git" signature for ada@example.org' in git(cli, "verify-tag", "v2")
    assert git(cli, "tag", "-l", "--format=%(contents:subject)", "v2") == "a release\n"
    assert [row["worth"] for row in cli.json("verify-tag", "v1", code=1)] == ["none"]
    cli("tag", "plain", "main")
    assert "plain tag" in cli.json("verify-tag", "plain", code=1)[0]["reason"]
    assert cli.error("verify-tag", "none")["kind"] == "NotFound"
    cli("tag", "-s", "v3", "main", code=2)
    configure(cli, "tag.gpgSign", "true")
    cli("tag", "v4", "main", "-m", "by config")
    assert cli.json("verify-tag", "v4")[0]["worth"] == "good"
    cli("tag", "v5", "main", "-m", "without", "--no-sign")
    cli("verify-tag", "v5", code=1)
    data = git(cli, "cat-file", "tag", "v2").replace("a release", "another")
    file = cli.store.parent / "forged"
    file.write_text(data)
    git(cli, "update-ref", "refs/tags/v6", git(cli, "hash-object", "-t", "tag", "-w", str(file)).strip())
    assert cli.json("verify-tag", "v6", code=1)[0]["worth"] == "bad"
    git(cli, "verify-tag", "v6", code=1)


@pytest.fixture
def agent(keys: Keys) -> Iterator[str]:
    """An agent that has Ada's key; the file with her private one is gone."""
    socket = keys.directory / "agent"
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            from tests.support.containers import eventually

            eventually(socket.exists)
            environment = {"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": str(socket)}
            _run("ssh-add", "-q", str(keys.directory / "ada"), env=environment)
            (keys.directory / "ada").unlink()
            yield str(socket)
        finally:
            process.kill()


def test_an_agent_signs(cli: Cli, keys: Keys, agent: str) -> None:
    root = cli.store.parent / "made"
    root.mkdir()
    public = (keys.directory / "ada.pub").read_text().strip()
    for key in (str(keys.directory / "ada.pub"), f"key::{public}", public):
        cli("import", str(root), "--allow-empty", "--key", key, env={"SSH_AUTH_SOCK": agent})
        assert worth(cli) == "good"
    error = cli.error("import", str(root), "--allow-empty", "--key", f"key::{public}")
    assert error["kind"] == "BadInput"
    assert "ssh-add" in error["advice"]


def test_what_is_missing_is_told_before_anything_is_written(cli: Cli, keys: Keys, tmp_path: Path) -> None:
    before = git(cli, "for-each-ref")
    root = tmp_path / "made"
    root.mkdir()
    words = ("import", str(root), "--allow-empty", "--sign")
    missing = cli.error(*words, "--key", str(tmp_path / "none"))
    assert missing["kind"] == "BadInput"
    assert str(tmp_path / "none") in missing["message"]
    configure(cli, "user.signingKey", "")
    assert "user.signingKey is not set" in cli.error(*words)["message"]
    odd = tmp_path / "odd"
    odd.write_text("no key\n")
    assert cli.error(*words, "--key", str(odd))["kind"] == "BadInput"
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git",):
        (tools / name).symlink_to(str(shutil.which(name)))
    key = str(keys.directory / "ada")
    done = cli("--format", "json", *words, "--key", key, code=125, env={"PATH": str(tools)})
    assert "openssh-client" in done.stderr
    assert git(cli, "for-each-ref") == before
    cli("import", str(root), "--sign", "--no-sign", "--key", key, code=2)


def test_a_file_that_is_named_and_not_there_is_told(cli: Cli, keys: Keys) -> None:
    make(cli, "--sign")
    configure(cli, "gpg.ssh.allowedSignersFile", "/nonexistent")
    assert cli.error("verify-commit", "main")["facts"]["path"] == "/nonexistent"
    assert "Signature: unchecked" in cli("show", "main").stdout
    git(cli, "config", "--unset", "gpg.ssh.allowedSignersFile")
    assert "is not set" in cli.json("verify-commit", "main", code=1)[0]["reason"]


def test_merges_and_their_like_are_signed(cli: Cli, keys: Keys) -> None:
    cli("merge", "other", "--no-ff", "--sign", "--theirs")
    assert worth(cli) == "good"
    cli("revert", "main", "--mainline", "1", "-S")
    assert worth(cli) == "good"
    assert worth(cli, "main~1") == "good"


def test_what_is_written_again_is_signed_if_that_is_wished(cli: Cli, keys: Keys) -> None:
    cli("branch", "side", "main~1")
    for number in range(2):
        make(cli, "--branch", "side", "-m", f"side {number}")
    cli("rebase", "main", "side", "--theirs", "--sign")
    assert [worth(cli, revision) for revision in ("side", "side~1")] == ["good", "good"]
    cli("squash", "main", "side")
    assert worth(cli, "side") == "none"
    cli("squash", "main", "side", "-m", "signed", "--sign")
    assert worth(cli, "side") == "good"


def test_a_container_s_commit_is_signed(box: Cli, keys: Keys) -> None:
    box("create", "--name", "web", "main")
    box("commit", "web", "-m", "signed", "--allow-empty", "-S", "--branch", "web")
    assert worth(box, "web") == "good"
    box("commit", "web", "-m", "not signed", "--allow-empty", "--branch", "web")
    assert worth(box, "web") == "none"
    assert box.json("show", "web~1")["trailers"]["Container"] == "web"


def test_forgetting_takes_the_signature_off_what_it_writes_anew(cli: Cli, keys: Keys) -> None:
    make(cli, "--sign")
    cli("branch", "-d", "other")
    cli("tag", "-d", "v1")
    cli("forget", "--keep-last", "1", "main")
    assert worth(cli) == "none"


def test_other_signatures_are_left_to_git(cli: Cli, keys: Keys) -> None:
    made = make(cli)
    header, _, text = git(cli, "cat-file", "commit", made).partition("\n\n")
    file = cli.store.parent / "pgp"
    armour = "-----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----"
    file.write_text(f"{header}\ngpgsig {armour}\n\n{text}")
    signed = git(cli, "hash-object", "-t", "commit", "-w", str(file)).strip()
    assert cli.json("verify-commit", signed, code=1)[0]["worth"] == "unchecked"


def test_who_does_not_sign_pays_nothing_for_it(cli: Cli, keys: Keys) -> None:
    """No process is run, and nothing of it is imported."""
    root = cli.store.parent / "made"
    root.mkdir()
    for words in (("import", str(root), "--allow-empty"), ("log", "--show-signature"), ("show", "main")):
        done = cli.process(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
        assert done.returncode == 0
        assert b"runtime.cli.program" in done.stderr
        assert b"runtime.signing" not in done.stderr
