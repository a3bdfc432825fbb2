"""docs/cli.md, from the commands themselves: `python -m runtime.cli.reference > docs/cli.md`. A test compares them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from runtime.cli.program import SECTIONS, program

_PREFACE = """\
# The commands

<!-- Written by `python -m runtime.cli.reference`; do not edit. -->

`treering --help` lists the verbs, `treering VERB --help` explains one.

- **Revisions** are git's: a branch, a tag, `main~2`, `main@{yesterday}`, the beginning of a commit's id. A container's
  name stands for its last commit, where no branch or tag has that name. `REV:PATH` is a file in a commit.
- **The store** is `--store PATH`, else `TREERING_STORE`, else `/var/lib/treering` for root and
  `$XDG_DATA_HOME/treering` for others. `--store` may stand before or after the verb.
- **At an operation**: with `--at-op OP`, before or after the verb, what only looks sees branches, tags and containers
  as they were after that operation of `treering op log`. Verbs that have no such option refuse it.
- **Output**: data goes to standard output, messages and progress to standard error. With `--format json` or `jsonl`,
  errors are JSON objects too: `{"error": {"kind", "message", "advice", "facts", "exit_code"}}`. A path that is not
  UTF-8 has its bytes in hexadecimal beside it, as `path_bytes`. In tables, odd names are quoted as git quotes them.
- **Colours and pager** are for terminals only. `NO_COLOR` turns colours off; `TREERING_PAGER` or `PAGER` names the
  pager, `--no-pager` or `TREERING_PAGER=cat` does without.
- **Exit codes**: 0; 1 for a difference with `--exit-code`, damage found by `fsck`, or a signature that is not good;
  2 if the command line is wrong;
  125 if treering failed; from `run` and `start` the container's own, 126 if its command cannot be run, 127 if there is
  none such; 130 after Ctrl-C; 141 if the reader of its output went away.
- **The author** of commits is `--author`, else `TREERING_AUTHOR_NAME` and `TREERING_AUTHOR_EMAIL`, else git's
  `GIT_AUTHOR_NAME` and `GIT_AUTHOR_EMAIL`, else git's `user.name` and `user.email`, else the login name at this host.
- **A fork server** begins commands for you in a few milliseconds, after the first one: a process that has everything
  imported, and leaves after five minutes without a command. `treering service` tells of it, `treering service stop`
  ends it, and `TREERING_FORK_SERVER=0` does without.
- `TREERING_DEBUG=1` adds Python's traceback to an error. With `TREERING_TRACE=fuse`, a service that the command starts
  logs a line for each message of the kernel: `treering service log`.
"""


def reference() -> str:
    """The whole document."""
    with click.Context(program, info_name="treering", help_option_names=["-h", "--help"]) as context:
        parts = [_PREFACE, *_index(), "\n## treering\n", *_options(program, context)]
        for title, summaries in SECTIONS.items():
            parts.append(f"\n## {title}\n")
            for summary in summaries:
                command = program.get_command(context, summary.name)
                assert command is not None
                parts += _command(command, click.Context(command, info_name=summary.name, parent=context))
    return "\n".join(parts) + "\n"


def _index() -> Iterator[str]:
    for title, summaries in SECTIONS.items():
        yield f"- {title}: " + ", ".join(f"[{one.name}](#treering-{one.name})" for one in summaries)


def _command(command: click.Command, context: click.Context, level: str = "###") -> Iterator[str]:
    yield f"{level} {context.command_path}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{context.command_path} {usage}\n```\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            title, *lines = paragraph.removeprefix("\b\n").split("\n")
            yield f"{title}\n\n```console\n" + "\n".join(f"# {line.strip()}" for line in lines) + "\n```\n"
        else:
            yield paragraph + "\n"
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command(inner, click.Context(inner, info_name=name, parent=context), level + "#")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option)]
    records = [option.get_help_record(context) for option in options]
    lines = [f"- `{record[0]}`: {record[1]}" for record in records if record]
    if lines:
        yield "Options:\n"
        yield "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
