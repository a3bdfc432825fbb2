"""build."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, verb
from runtime.cli.output import message
from runtime.cli.quoting import safe
from runtime.cli.secrets import allow_secrets_option, secret_fields, secrets_policy, tell_secrets
from runtime.cli.signing import commit_signer, sign_options
from runtime.cli.storehooks import hook_fields, no_verify_option, tell_hooks
from vcs.errors import InvalidName, NotFound

if TYPE_CHECKING:
    from runtime.building.build import Built
    from runtime.building.parser import Instruction
    from runtime.building.steps import Config, Stage, Step
    from runtime.storehooks import HookRun
    from vcs.model import CommitId

_SHORT = 12
_SHOWN = 150
_SECRET_MAX = 512 << 10
_NO_NAME = re.compile(r"[\x00-\x20~^:?*\[\\\x7f]|\.\.|@\{|//|\.lock(/|$)|^[-/.]|[/.]$|/\.|^$")
"""What no ref's name may have in it."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@verb("build", data=True, namespaces="mount")
@click.argument("directory", metavar="DIRECTORY", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-f", "--file", "dockerfile", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
              help="The Dockerfile; otherwise DIRECTORY/Dockerfile. - reads standard input.")  # fmt: skip
@click.option("-t", "--tag", "--branch", "branch", metavar="BRANCH", shell_complete=branch_completion,
              help="The branch that is at the result then.")  # fmt: skip
@click.option("--target", metavar="STAGE", help="Build this stage, and what it needs; otherwise the last one.")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME[=VALUE]",
              help="The value of an ARG; without one, that of your variable.")  # fmt: skip
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]",
              help="A file or variable for RUN --mount=type=secret. It is in no commit.")  # fmt: skip
@click.option("--no-cache", is_flag=True, help="Carry out every step, also those that were made before.")
@click.option("--network", metavar="NAME", default="host", show_default=True,
              help="Of a RUN: host (the machine's), none, bridge, or one that was made.")  # fmt: skip
@click.option("--tls-verify", type=bool, default=True, show_default=True,
              help="Demand a valid certificate of registries that images of FROM are pulled from.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the commit's id.")
@click.option("--progress", type=click.Choice(("plain", "quiet")), default="plain", show_default=True,
              help="What is told meanwhile: each step and what it prints, or nothing.")  # fmt: skip
@sign_options
@no_verify_option
@author_option
@allow_secrets_option
def build(
    invocation: Invocation,
    directory: Path,
    dockerfile: Path | None,
    branch: str | None,
    target: str | None,
    arguments: tuple[str, ...],
    secrets: tuple[str, ...],
    no_cache: bool,
    network: str,
    tls_verify: bool,
    quiet: bool,
    progress: str,
    sign: bool | None,
    key: str | None,
    no_verify: bool,
    author: str | None,
    allow_secrets: bool,
) -> None:
    """Build a Dockerfile, with a commit for each instruction.

    COPY and ADD take files from DIRECTORY, but for what .dockerignore leaves out. FROM names a branch, a tag or another
    revision. What was built before is found in the history, and not done again: a step with the same parent, the same
    instruction and the same files. So every step can be looked at, compared, and run: `treering run -it BRANCH~2 sh`.

    If a RUN fails, its exit code is this command's, and the error names the commit that it ran on. What is not
    supported is refused, with its line, before anything is run.

    If the branch moves, the store's hook pre-commit is asked first, but for --no-verify; post-commit is run after it.
    With --sign, or where git's commit.gpgSign says so, the last commit is signed; the steps below it are not.

    \b
    Example:
      treering build -t app .
      treering build -t app --target test --build-arg VERSION=2 --secret id=token,src=token.txt .
    """
    from runtime.building.bases import resolve_base
    from runtime.building.build import Build, Options, check_secrets, context_sources
    from runtime.building.contents import Context
    from runtime.building.dockerignore import read_rules
    from runtime.building.parser import SIZE_MAX, parse
    from runtime.building.stages import Plan
    from runtime.storehooks import run_after

    path = dockerfile if dockerfile is not None else directory / "Dockerfile"
    if str(path) == "-":
        data = sys.stdin.buffer.read(SIZE_MAX + 1)
    else:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    store, who = invocation.store, invocation.author(author)
    given, signer = _secrets(secrets), commit_signer(invocation, sign, key)
    if branch is not None:
        _check_branch(branch)

    def config_of(reference: str, first: Instruction) -> Config:
        try:
            return store.history.config(resolve_base(store, reference, who, tls_verify=tls_verify))
        except NotFound as error:
            raise NotFound(f"Dockerfile, line {first.line}: {error}", line=first.line, **error.facts) from None

    with store.writing():
        plan = Plan(
            parse(data), config_of, target=target, arguments=_arguments(arguments),
            platform=("linux", _ARCHITECTURES.get(os.uname().machine, os.uname().machine)),
        )  # fmt: skip
        check_secrets(plan.stages, given)
        if plan.unused:
            message(f"warning: no ARG asks for {', '.join(map(safe, plan.unused))}")
        policy = secrets_policy(invocation, allow_secrets)
        rules = read_rules(directory, path)
        context = Context(store, directory, rules, context_sources(plan.stages), policy)
        called = path.name if str(path) != "-" else "Dockerfile"
        options = Options(branch, not no_cache, network, given, policy, called, signer, not no_verify)
        told = _Told(hidden=quiet or progress == "quiet")
        began = time.monotonic()
        built = Build(invocation.containers, plan, context, who, told, options).run()
    tell_secrets(built.secrets)
    seconds = time.monotonic() - began
    hooks = built.finished.hooks
    if built.finished.event is not None:
        hooks += run_after(store.path, "post-commit", built.finished.event)
    tell_hooks(hooks)
    _tell(invocation, built, hooks, branch, seconds, quiet)


def _tell(
    invocation: Invocation, built: Built, hooks: Sequence[HookRun], branch: str | None, seconds: float, quiet: bool
) -> None:
    output = invocation.output
    if not output.is_table:
        output.value(
            {
                "commit": built.commit,
                "branch": branch,
                "moved": built.finished.moved,
                "root": built.root.hex(),
                "cached": built.cached,
                "made": built.made,
                "seconds": round(seconds, 3),
                "secrets": secret_fields(built.secrets),
                "hooks": hook_fields(hooks),
            }
        )
    elif quiet or branch is None:
        output.line(built.commit)
    if output.is_table and not quiet:
        where = f"[{branch} {built.commit[:_SHORT]}] " if branch is not None else ""
        message(f"{where}{built.made} of {built.made + built.cached} steps carried out in {seconds:.1f} s")


class _Told:
    """Steps and what they print, on stderr, as Docker's plain progress has them."""

    def __init__(self, hidden: bool) -> None:
        self._hidden = hidden
        self._number = 0
        self._unfinished = b""

    def begin(self, stage: Stage, step: Step | None, number: int, total: int) -> None:
        self._number += 1
        source = step.instruction.source if step else f"FROM {stage.base.reference or _stage_of(stage)}"
        title = " ".join(source.split())
        title = title if len(title) <= _SHOWN else title[: _SHOWN - 3] + "..."
        self._line(f"[{stage.title} {number}/{total}] {safe(title)}".encode())

    def output(self, data: bytes) -> None:
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._line(line)

    def end(self, commit: CommitId | None, cached: bool, seconds: float) -> None:
        if self._unfinished:
            self._line(self._unfinished)
            self._unfinished = b""
        how = "CACHED" if cached else f"DONE {seconds:.1f}s"
        self._line(f"{how} {commit[:_SHORT] if commit else ''}".rstrip().encode())

    def _line(self, text: bytes) -> None:
        if not self._hidden:
            sys.stderr.flush()
            sys.stderr.buffer.write(b"#%d %s\n" % (self._number, text))
            sys.stderr.buffer.flush()


def _stage_of(stage: Stage) -> str:
    return "scratch" if stage.base.stage is None else f"stage {stage.base.stage}"


def _check_branch(branch: str) -> None:
    """A name that cannot be is told before the work."""
    if _NO_NAME.search(branch) or branch == "HEAD":
        raise InvalidName(f"{branch!r} cannot be a branch: see git-check-ref-format(1)", name=branch)


def _arguments(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise click.BadParameter(f"{text!r} has no name", param_hint="'--build-arg'")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _secrets(given: tuple[str, ...]) -> dict[str, bytes]:
    """The secrets by their ids."""
    found: dict[str, bytes] = {}
    for text in given:
        fields: dict[str, Any] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            fields[{"source": "src"}.get(name, name)] = value
        unknown = fields.keys() - {"id", "src", "env", "type"}
        if unknown or not fields.get("id") or ("src" in fields and "env" in fields):
            raise click.BadParameter(f"{text!r}: write id=ID,src=FILE or id=ID,env=NAME", param_hint="'--secret'")
        if "src" in fields:
            found[fields["id"]] = _secret_file(Path(fields["src"]))
        else:
            name = fields.get("env") or fields["id"]
            if name not in os.environ:
                raise click.BadParameter(f"{text!r}: there is no variable {name}", param_hint="'--secret'")
            found[fields["id"]] = os.fsencode(os.environ[name])
    return found


def _secret_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_SECRET_MAX + 1)
    if len(data) > _SECRET_MAX:
        raise click.BadParameter(f"{path} is larger than {_SECRET_MAX} bytes", param_hint="'--secret'")
    return data


VERBS: dict[str, click.Command] = {"build": build}
