"""gc."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import dry_run_option, verb
from runtime.cli.output import count_text, message, size_text
from runtime.cli.quoting import safe
from vcs.errors import BadInput

if TYPE_CHECKING:
    from vcs.collect import Collected
    from vcs.store import Store

DEFAULT_EXPIRE = "30d"
_SPAN = re.compile(r"(\d+)([hdw])")
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def expiry(text: str) -> float:
    """A time, in seconds since 1970: `now`, `never`, an age (`12h`, `30d`, `2w`) or a date. BadParameter.

    >>> expiry("never"), expiry("now"), expiry("1970-01-02T00:00:00+00:00")
    (0.0, inf, 86400.0)
    """
    if text == "never":
        return 0.0
    if text == "now":
        return float("inf")
    if span := _SPAN.fullmatch(text):
        return time.time() - int(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no age (12h, 30d, 2w), no date (2026-01-31), and neither 'now' nor 'never'"
        ) from None


@verb("gc", data=True, namespaces="enter")
@click.option("--expire", callback=lambda _, __, text: expiry(text), metavar="TIME", default=DEFAULT_EXPIRE,
              show_default=True,
              help="How old reflog entries and operations get: 12h, 30d, 2w, a date, now or never.")  # fmt: skip
@click.option("--repack", is_flag=True, help="Write everything anew, as small as is reasonable. Takes long.")
@dry_run_option
def gc(invocation: Invocation, expire: float, repack: bool, dry_run: bool) -> int:
    """Remove what nothing needs any more.

    Kept is what branches, tags and containers reach, what a reflog's entry younger than --expire names (so that a
    branch which was moved by mistake can be found again), what it takes to undo an operation as young, the last states
    of containers that were removed no longer ago, and what is being read through the mount. Older entries are removed
    from the reflogs and the operation log. Half-empty files are rewritten, and small ones merged. Steps of builds and
    the caches of their RUNs are kept for 30 days; `git config treering.buildCache 7d` in the store's history.git says
    otherwise.

    Other commands, containers and mounts go on meanwhile. The exit code is 1 if something damaged was found and left.

    \b
    Example:
      treering gc --dry-run
      treering gc
      treering gc --expire now
      treering gc --repack
    """
    done = collected(invocation, expire, repack=repack, dry_run=dry_run)
    if invocation.output.is_table:
        tell(done, dry_run)
    else:
        _write(invocation, done, dry_run)
    return 1 if done.problems else 0


def collected(invocation: Invocation, expire: float, *, repack: bool = False, dry_run: bool = False) -> Collected:
    """Collect garbage, with a line that tells how far it is."""
    from fusefs.client import Service
    from runtime import keptlogs
    from runtime.cli.progress import Progress
    from runtime.generations import forget_left
    from runtime.removal import expired_states, forget_states
    from vcs.collect import collect

    strategy = None
    if repack:
        from vcs.collect.repack import Repack

        strategy = Repack()
    containers = invocation.containers  # opening them finishes what a killed `forget` has begun
    store = containers.store
    if not dry_run:
        containers.forget_gone()
        forget_left(containers)
    expired = expired_states(store, expire)
    if expired and dry_run:
        message(f"{count_text(len(expired), 'last state')} of removed containers would go too, with what is theirs")
    elif expired:
        forget_states(store, expired)
        message(f"{count_text(len(expired), 'last state')} of removed containers expired")
    _expire_builds(store, dry_run)
    if logs := keptlogs.expire(store.path, expire, dry_run=dry_run):
        message(f"{count_text(logs, 'log')} of removed containers {'would go too' if dry_run else 'expired'}")
    with Progress("Collecting") as progress:
        done = collect(
            store,
            since=expire,
            roots=lambda: Service.roots(store.path),
            commits=containers.bases,
            strategy=strategy,
            dry_run=dry_run,
            progress=lambda what, done, total: progress.update(done, None, total, what),
        )
    for problem in done.problems:
        message(f"damaged: {safe(problem)}")
    return done


def _expire_builds(store: Store, dry_run: bool) -> None:
    """Forget what was built longer ago than `git config treering.buildCache` says."""
    from runtime.building import cache

    value = store.history.setting(cache.SETTING) or cache.DEFAULT_KEPT
    try:
        since = expiry(value)
    except click.BadParameter as error:
        raise BadInput(f"{cache.SETTING}: {error.message}", setting=cache.SETTING, value=value) from None
    steps, directories = cache.expired(store, since), cache.expired_directories(store, since)
    if not steps and not directories:
        return
    if not dry_run:
        cache.forget(store, steps)
        for path in directories:
            cache.remove_directory(path)
    what = f"{count_text(len(steps), 'step')} of builds and {count_text(len(directories), 'cache')} of theirs"
    message(f"{what} {'would go too' if dry_run else 'expired'}")


def default_expiry() -> float:
    """From when on reflog entries stay, if nothing else is said: seconds since 1970."""
    return expiry(DEFAULT_EXPIRE)


def _write(invocation: Invocation, done: Collected, dry_run: bool) -> None:
    invocation.output.value(
        {
            "dry_run": dry_run,
            "freed": done.freed,
            "layers": done.layers,
            "rewritten": done.rewritten,
            "written": done.written,
            "objects": done.objects,
            "commits": done.commits,
            "reflog_entries": done.reflog_entries,
            "operations": done.operations,
            "in_use": done.in_use,
            "problems": list(done.problems),
        }
    )


def tell(done: Collected, dry_run: bool = False) -> None:
    """What a collection did, for people."""
    parts = [
        count_text(done.commits, "commit"),
        count_text(done.objects, "object"),
        count_text(done.reflog_entries, "reflog entry", "reflog entries"),
    ]
    layers = f"{count_text(done.layers - done.rewritten, 'layer')} removed, {done.rewritten:,} rewritten"
    verb = "Would free about" if dry_run else "Freed"
    message(f"{verb} {_amount(done.freed)}: {', '.join(parts)}; {layers}")
    if done.in_use:
        message(f"{count_text(done.in_use, 'layer')} stay until the commands that use them now are done")


def _amount(size: int) -> str:
    """What was freed; rewriting a little may also have taken a little."""
    return f"-{size_text(-size)}" if size < 0 else size_text(size)


VERBS: dict[str, click.Command] = {"gc": gc}
