"""verify-commit, verify-tag; and the options of verbs that sign."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, tag_completion, verb
from runtime.cli.output import message
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT, verdict_fields, verdict_text
from vcs.errors import BadInput

if TYPE_CHECKING:
    from runtime.signing.verdict import Verdict
    from vcs.signed import Sign

F = TypeVar("F", bound=Callable[..., Any])


def key_option(command: F) -> F:
    """--key."""
    return click.option(
        "--key", metavar="KEY", help="Sign with this one: a file, or a public key after `key::` that an agent has."
    )(command)


def sign_options(command: F) -> F:
    """--sign and --key, for commits."""
    flag = click.option(
        "-S", "--sign/--no-sign", default=None, help="Sign the commit with an SSH key; or do not, whatever git says."
    )
    return flag(key_option(command))


def sign_commits(invocation: Invocation, sign: bool | None, key: str | None) -> None:
    """Have the commits signed that this command makes, if the options or commit.gpgSign ask for it. What keeps it from
    being done is told before anything is written, as far as it can be seen."""
    invocation.store.sign = commit_signer(invocation, sign, key)


def commit_signer(invocation: Invocation, sign: bool | None, key: str | None) -> Sign | None:
    """What signs commits, if the options or commit.gpgSign ask for it."""
    return _signer(invocation, sign, key, "commit.gpgSign")


def tag_signer(invocation: Invocation, sign: bool | None, key: str | None) -> Sign | None:
    """The same for a tag: what signs it."""
    return _signer(invocation, sign, key, "tag.gpgSign")


def _signer(invocation: Invocation, sign: bool | None, key: str | None, setting: str) -> Sign | None:
    if sign is False and key:
        raise click.UsageError("--key and --no-sign exclude one another")
    store = invocation.store
    if sign is False or not (sign or key or store.history.setting(setting)):
        return None
    from runtime.signing.settings import is_wished, signs_otherwise
    from runtime.signing.verdict import signer

    asked = sign or key is not None
    if not asked and not is_wished(store, setting):
        return None
    other = signs_otherwise(store)
    if not asked and other:
        message(f"warning: not signed: {setting} is set, but gpg.format is {other}, and only ssh is done here")
        return None
    if other and key is None and store.history.setting("gpg.format"):
        raise BadInput(f"gpg.format is {other!r}, and only signatures with SSH keys are made here", signing="key")
    return signer(store, key)


@verb("verify-commit", data=True)
@revision_argument("revisions", nargs=-1, required=True, metavar="REV...")
def verify_commit(invocation: Invocation, revisions: tuple[str, ...]) -> int:
    """Tell what the signatures of commits are worth.

    A line for each: `good` if the key is that of somebody whom the file named by git's gpg.ssh.allowedSignersFile
    knows, and who that is; `unknown` if the signature fits and nobody says whose key it is; `bad` if it does not fit;
    `unchecked` if it is of no SSH key; `none` if there is none. The exit code is 1 unless all are good.

    \b
    Example:
      treering verify-commit main
      treering verify-commit main~1 v1 && treering run main
    """
    from runtime.signing.verdict import of_commit

    commits = [invocation.commit(revision) for revision in revisions]
    return _tell(invocation, "commit", ((commit, of_commit(invocation.store, commit)) for commit in commits))


@verb("verify-tag", data=True)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=tag_completion)
def verify_tag(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Tell what the signatures of tags are worth.

    As verify-commit does for commits. A tag without a message cannot be signed.

    \b
    Example:
      treering verify-tag v1
    """
    from runtime.signing.verdict import of_tag

    return _tell(invocation, "tag", ((name, of_tag(invocation.store, name)) for name in names))


def _tell(invocation: Invocation, kind: str, verdicts: Iterable[tuple[str, Verdict]]) -> int:
    output = invocation.output
    found = list(verdicts)

    def table(rows: Iterable[tuple[str, Verdict]]) -> None:
        for name, verdict in rows:
            shown = name[:SHORT] if kind == "commit" else safe(name)
            output.line(f"{output.paint(shown, 'yellow')} {verdict_text(verdict)}")

    output.rows(found, lambda row: {kind: row[0], **verdict_fields(row[1])}, table)
    return 0 if all(verdict.worth == "good" for _, verdict in found) else 1


VERBS: dict[str, click.Command] = {"verify-commit": verify_commit, "verify-tag": verify_tag}
