"""import."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.author import user_trailer
from runtime.cli.images import image_options, take_image, tell_images, wish_of
from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.progress import Progress, seconds_text
from runtime.cli.quoting import path_fields, quoted
from runtime.cli.render_commits import SHORT
from runtime.cli.secrets import allow_secrets_option, secret_fields, secrets_policy, tell_secrets
from runtime.cli.signing import sign_commits, sign_options
from runtime.cli.storehooks import hook_fields, no_verify_option, tell_hooks
from runtime.namespace import in_user_namespace

if TYPE_CHECKING:
    from runtime.images.archive import Opened
    from runtime.images.choosing import Wish
    from runtime.images.image import Image
    from runtime.secrets import Finding
    from runtime.storehooks import HookRun
    from vcs.ignore import Patterns
    from vcs.importcache import ImportCache
    from vcs.importresult import ImportResult
    from vcs.leases import Lease
    from vcs.store import Store
    from vcs.trees import Sink

_SHOWN = 10
"""How many paths of a long list are told."""
_PATTERN_OPTIONS = ("exclude", "include", "exclude_from")


class _ImportCommand(click.Command):
    """Remembers in which order the options with patterns stood: click gives the values of each by itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        ctx.meta["patterns"] = [option.name for option in order if option.name in _PATTERN_OPTIONS]
        return super().parse_args(ctx, args)


@verb("import", data=True, cls=_ImportCommand)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path, allow_dash=True, readable=False))
@click.option("-b", "--branch", default="main", show_default=True, metavar="BRANCH", help="Where the commit goes.",
              shell_complete=branch_completion)  # fmt: skip
@click.option("-m", "--message", "text", metavar="MESSAGE", help="The commit's message.")
@author_option
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches, as in a gitignore file.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Take in what matches after all.")
@click.option("--exclude-from", multiple=True, metavar="FILE", help="A file of patterns.",
              type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--no-ignore", is_flag=True, help="Do not look for .treeringignore files.")
@click.option("--all-file-systems", is_flag=True, help="Enter what is mounted below SOURCE too.")
@click.option("--rescan", is_flag=True, help="Read every file, also those that seem not to have changed.")
@click.option("--allow-empty", is_flag=True, help="Make a commit even if nothing changed on the branch.")
@click.option("--image", "name", metavar="NAME:TAG", help="Of several images in SOURCE, which one.")
@image_options
@allow_secrets_option
@sign_options
@no_verify_option
@click.pass_context
def import_verb(
    context: click.Context,
    invocation: Invocation,
    source: Path,
    branch: str,
    text: str | None,
    author: str | None,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    exclude_from: tuple[Path, ...],
    no_ignore: bool,
    all_file_systems: bool,
    rescan: bool,
    allow_empty: bool,
    name: str | None,
    platform: str | None,
    flat: bool,
    force: bool,
    allow_secrets: bool,
    sign: bool | None,
    key: str | None,
    no_verify: bool,
) -> None:
    """Make commits of a directory, an archive or an image.

    SOURCE is a directory, or an archive of a root filesystem: tar, plain or compressed with gzip, bzip2, xz or zstd;
    `-` reads one from standard input. Nothing of an archive is ever extracted to disk. A branch that exists gets the
    commit on top.

    SOURCE may also hold an image: an OCI layout, as a directory or an archive, or an archive of `docker save` or
    `podman save`. Its content tells, not its name. Each step of the image's history becomes a commit, and the branch
    names the last of them; the same image always becomes the same commits. A branch moves from one image to the next,
    but if it has commits of your own, that takes --force.

    A directory that was imported before is only read where it has changed since: files whose size, times, inode, owner
    and mode are the same are taken to be the same.

    Patterns are those of gitignore(5), and the last that matches a name decides. A .treeringignore file in SOURCE, or
    in a directory below it, has patterns for its directory. A directory that is left out is not entered.

    You are warned of private keys, tokens and credentials in what the commit adds; `git config treering.secrets refuse`
    in the store's history.git has it refused instead, but for --allow-secrets, and `off` does not look.

    The store's hook pre-commit may refuse the commit, but for --no-verify; post-commit is run after it.

    \b
    Example:
      treering import ./debian --branch main -m "Debian base"
      treering import / --exclude /home --exclude '*.log' --include important.log
      treering import rootfs.tar.zst --branch alpine
      curl -s https://example.org/rootfs.tar.xz | treering import - -b other
      docker save web:2 | treering import - -b web
      treering import ./layout --image app:1 --platform linux/arm64 -b app
      treering import ./layout --platform all -b app      # app-amd64, app-arm64 and so on
    """
    from runtime.commits import brought, with_trailers
    from runtime.images.choosing import branch_for
    from runtime.secrets import SecretWatch
    from runtime.storehooks import Event, run_after, run_before
    from vcs.history import BRANCHES

    patterns = _patterns(context.meta["patterns"], exclude, include, exclude_from)
    if _has_owners_here(source):
        invocation.enter_namespaces()
    store, history = invocation.store, invocation.store.history
    invocation.author(author)  # a mistake in it is told before the work
    policy = secrets_policy(invocation, allow_secrets)
    with store.writing() as lease, ExitStack() as stack:
        tip = history.target(BRANCHES + branch)
        wish = wish_of(name, platform)
        opened = stack.enter_context(_opened(invocation, source, wish))
        if isinstance(opened, tuple):
            if text is not None or context.meta["patterns"]:
                raise click.UsageError(
                    "SOURCE is an image, whose commits have messages of their own, and all its files"
                )
            if sign or key is not None:
                raise click.UsageError("SOURCE is an image: its commits are the same for everybody, and not signed")
            told = [
                take_image(
                    invocation, image, branch_for(branch, image.platform) if wish.all_platforms else branch,
                    f"import: {image.name or source}", flat=flat, force=force, allow_secrets=allow_secrets,
                )
                for image in opened
            ]  # fmt: skip
            tell_images(invocation, wish, told)
            return
        if name is not None or platform is not None or flat or force:
            raise click.UsageError("--image, --platform, --flat and --force are for images, and SOURCE is none")
        sign_commits(invocation, sign, key)
        with _remembered(store, lease, source, rescan) as cache:
            before = store.commit(tip).root if tip else None
            with Progress("Importing") as progress, store.batch() as batch:
                watch = SecretWatch(store, batch, policy)
                if opened is None:
                    result = _import_directory(
                        invocation, source, watch, progress, patterns, cache, not no_ignore, all_file_systems
                    )
                else:
                    result = _import_archive(source, opened, watch, progress, patterns)
                watch.refuse(before, result.root)
            made = allow_empty or before != result.root
            commit = str(tip)
            hooks: tuple[HookRun, ...] = ()
            if made:
                who = invocation.author(author)  # again: the time is that of the commit
                config = history.config(tip) if tip else _default_config()
                title = text if text is not None else f"Import of {'standard input' if str(source) == '-' else source}"
                words = with_trailers(title, {"Source": _source_text(source), **user_trailer()})
                commit = store.add_commit(result.root, config, words, who, (tip,) if tip else ())
                event = Event(commit, tip, branch=branch, changes=lambda: brought(store, before, result.root))
                if not no_verify:
                    hooks = run_before(store.path, "pre-commit", event)
                history.move(BRANCHES + branch, commit, tip, f"import: {title.splitlines()[0] if title else ''}", who)
            if cache is not None:
                cache.save(result.root)
            secrets = watch.findings(before, result.root)
    if made:
        hooks += run_after(store.path, "post-commit", event)
    _tell(invocation, result, secrets, hooks, commit, branch, batch.added, progress.seconds, made=made)


def _source_text(source: Path) -> str:
    return "standard input" if str(source) == "-" else quoted(os.fsencode(source.absolute()))


def _is_directory(source: Path) -> bool:
    return str(source) != "-" and source.is_dir()


def _has_owners_here(source: Path) -> bool:
    """Whether files' owners are the machine's, and not those that are written in an archive. Where an ordinary user
    cannot even look, he may from his namespaces."""
    try:
        return _is_directory(source)
    except PermissionError:
        return True


def _patterns(
    order: list[str], exclude: tuple[str, ...], include: tuple[str, ...], exclude_from: tuple[Path, ...]
) -> Patterns | None:
    """What the options say, in their order."""
    if not order:
        return None
    from vcs.ignore import Patterns, patterns_in

    def given() -> Iterator[tuple[str, str]]:
        excluded, included, files = iter(exclude), iter(include), iter(exclude_from)
        for option in order:
            if option == "exclude":
                yield "--exclude", next(excluded)
            elif option == "include":
                yield "--include", "!" + next(included)
            else:
                file = next(files)
                yield from patterns_in(file.read_bytes(), str(file))

    return Patterns(given())


def _remembered(
    store: Store, lease: Lease, source: Path, rescan: bool
) -> AbstractContextManager[ImportCache] | nullcontext[None]:
    if not _is_directory(source):
        return nullcontext()
    from vcs.importcache import import_cache

    return import_cache(store, lease, source, rescan=rescan)


def _import_directory(
    invocation: Invocation,
    source: Path,
    sink: Sink,
    progress: Progress,
    patterns: Patterns | None,
    cache: ImportCache | None,
    ignore_files: bool,
    all_file_systems: bool,
) -> ImportResult:
    from vcs.ignore import Ignore
    from vcs.importer import import_directory
    from vcs.progress import Forecast

    total = cache.previous.size if cache is not None and cache.previous else None
    # Before the first import nobody knows how much there is; only a terminal wants to know.
    with Forecast(source if progress.is_shown and not total else None) as forecast:
        return import_directory(
            sink,
            source,
            one_file_system=not all_file_systems,
            leave_out=_own_directories(invocation.store_path),
            ignore=Ignore(patterns, ignore_files),
            cache=cache,
            progress=lambda files, size: progress.update(size, files, total, total_files=forecast.files),
        )


def _import_archive(
    source: Path, content: Opened, sink: Sink, progress: Progress, patterns: Patterns | None
) -> ImportResult:
    from vcs.tar_import import import_tar

    total = None if str(source) == "-" else source.stat().st_size or None
    # The archive may be compressed: how far we are is told by what was read of it, not by what came out.
    return import_tar(
        content, sink, patterns=patterns, progress=lambda files, _: progress.update(content.taken, files, total)
    )


@contextmanager
def _opened(invocation: Invocation, source: Path, wish: Wish) -> Iterator[tuple[Image, ...] | Opened | None]:
    """The image in SOURCE, or one for each platform, or the content of an archive that has none; None for a directory
    that is no image."""
    from runtime.images.opening import images_in_directory, images_or_archive, is_layout

    if _is_directory(source):
        yield images_in_directory(source, wish) if is_layout(source) else None
        return
    if str(source) == "-":
        if sys.stdin.isatty():
            raise click.UsageError("standard input is a terminal; an archive is expected there")
        with images_or_archive(sys.stdin.buffer, "standard input", invocation.store.caches, wish) as found:
            yield found
        return
    with source.open("rb") as file, images_or_archive(file, str(source), invocation.store.caches, wish) as found:
        yield found


def _own_directories(store: Path) -> frozenset[tuple[int, int]]:
    """The store is left out of an import of what it lies in."""
    status = store.stat()
    return frozenset({(status.st_dev, status.st_ino)})


def _default_config() -> dict[str, Any]:
    """An OCI image config for a root that nothing is known about."""
    from runtime.bundle import DEFAULT_PATH
    from runtime.imageconfig import machine_architecture

    return {
        "architecture": machine_architecture(),
        "os": "linux",
        "config": {"Env": [f"PATH={DEFAULT_PATH}"], "Cmd": ["/bin/sh"]},
    }


def _tell(
    invocation: Invocation,
    result: ImportResult,
    secrets: Sequence[Finding],
    hooks: Sequence[HookRun],
    commit: str,
    branch: str,
    added: int,
    seconds: float,
    *,
    made: bool,
) -> None:
    nobody = result.nobody if in_user_namespace() else 0
    for paths, what in (
        (result.skipped, "is of another file system, or the store: its content was left out"),
        (result.vanished, "was deleted while it was read"),
        (result.whiteouts, "is a character device 0:0, which overlayfs takes for a deleted name: no container sees it"),
    ):
        for path in paths[:_SHOWN]:
            message(f"warning: {quoted(path)} {what}")
        if len(paths) > _SHOWN:
            message(f"warning: and {len(paths) - _SHOWN:,} more")
    tell_secrets(secrets)
    if invocation.output.is_table:
        tell_hooks(hooks)
    if nobody:
        message(
            f"warning: {count_text(nobody, 'file belongs', 'files belong')} to users or groups outside of your range "
            "(/etc/subuid, /etc/subgid): recorded as those of nobody (65534)"
        )
    if result.left_out:
        message(f"{count_text(result.left_out, 'path')} left out by patterns")
    output = invocation.output
    if output.is_table:
        what = f"{count_text(result.entries, 'entry', 'entries')}, {size_text(result.size)}"
        if made:
            message(
                f"[{branch} {commit[:SHORT]}] {what} in {seconds_text(seconds)}; the store grew by {size_text(added)}"
            )
        else:
            message(f"Nothing has changed: {branch} is at {commit[:SHORT]} already ({what} in {seconds_text(seconds)})")
        return
    output.value(
        {
            "commit": commit,
            "made": made,
            "branch": branch,
            "root": result.root.hex(),
            "entries": result.entries,
            "size": result.size,
            "added": added,
            "seconds": round(seconds, 3),
            "skipped": [path_fields(path) for path in result.skipped],
            "vanished": [path_fields(path) for path in result.vanished],
            "left_out": result.left_out,
            "nobody": nobody,
            "whiteouts": [path_fields(path) for path in result.whiteouts],
            "secrets": secret_fields(secrets),
            "hooks": hook_fields(hooks),
        }
    )


VERBS: dict[str, click.Command] = {"import": import_verb}
