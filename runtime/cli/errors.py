"""What the user is told about an error, and the exit code: here and only here.

The libraries' errors say what happened and carry facts (vcs.errors). What to do about it depends on who asks; for
somebody at this command line it is below.

    0     done                     1     a difference, with --exit-code; damage, from fsck; a fork failed, --wait;
                                                     conflicts, from merge; a signature that is not good; only skipped
                                                     ones left, from bisect run
    2     the command line is wrong
    125   treering failed          126   the container's command cannot be run     127   there is no such command
    130   Ctrl-C                   141   nobody reads the output any more
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from runtime.cli.output import Format, message, use_colours
from runtime.cli.quoting import quoted, safe
from vcs import errors as known
from vcs.shortage import is_of_memory

USAGE = 2
FAILED = 125
INTERRUPTED = 130
BROKEN_PIPE = 141

Facts = Mapping[str, Any]
_UNOPENED = "cannot open shared object file"
"""What the loader says of a library that cannot be opened."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is shown."""

    kind: str
    message: str
    advice: str = ""
    facts: Facts = field(default_factory=dict)
    code: int = FAILED
    trace: str = ""


def failure_of(error: BaseException) -> Failure:
    """What to say about an exception."""
    if isinstance(error, click.UsageError):
        return Failure("UsageError", _usage_message(error), _usage_advice(error), code=USAGE)
    if isinstance(error, click.ClickException):
        return Failure("UsageError", error.format_message(), code=USAGE)
    if isinstance(error, known.TreeringError):
        code = error.facts.get("exit_code", FAILED)
        return Failure(error.kind, _readable(error), advice(error), error.facts, code, _trace(error))
    if isinstance(error, OSError) and error.errno is not None:
        return _os_failure(error)
    if isinstance(error, ImportError) and _UNOPENED in str(error):
        return Failure(
            "Incomplete", f"a library cannot be opened: {error}", "run the command again, or install treering again"
        )
    if is_of_memory(error):
        return Failure("NoMemory", "there is not enough memory", "nothing is lost: run the command again later")
    if isinstance(error, ImportError) and error.name and error.name.split(".")[0] not in ("vcs", "fusefs", "runtime"):
        text = f"the Python package {error.name!r} is missing, or cannot be read"
        return Failure("Incomplete", text, "install treering again, with its dependencies", {"package": error.name})
    if isinstance(error, LookupError) and "unknown encoding" in str(error):  # a module of Python's, too
        return Failure("Incomplete", f"a part of Python cannot be read: {error}", "run the command again")
    return Failure(
        "Bug",
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug in treering. Please report it with the output of the same command under TREERING_DEBUG=1",
        trace=_trace(error),
    )


def report(failure: Failure, format_: Format) -> None:
    """Tell it on stderr: a line and a hint, or a JSON object."""
    if format_ == "table":
        red, cyan, end = ("\x1b[31m", "\x1b[36m", "\x1b[m") if use_colours(sys.stderr) else ("", "", "")
        message(f"{red}treering:{end} {safe(failure.message)}")
        if failure.advice:
            message(f"{cyan}hint:{end} {safe(failure.advice)}")
    else:
        import json

        error = {
            "kind": failure.kind,
            "message": failure.message,
            "advice": failure.advice or None,
            "facts": {key: _plain(value) for key, value in failure.facts.items() if key != "exit_code"},
            "exit_code": failure.code,
        }
        message(json.dumps({"error": error}))
    if failure.trace:
        message(failure.trace.rstrip())


# -- advice


def advice(error: known.TreeringError) -> str:
    """What to do about an error; empty where the message says it all. The nearest class that knows something wins."""
    for kind in type(error).__mro__:
        if kind in _ADVICE:
            found = _ADVICE[kind](error.facts)
            if found:
                return found
    return ""


def _not_found(facts: Facts) -> str:
    if "advice" in facts:
        return str(facts["advice"])
    if "signing" in facts:
        return "install it: apt-get install openssh-client (the package openssh elsewhere)"
    if "note" in facts:
        return "`treering note list` lists the commits that have one"
    if "bisect" in facts:
        return "begin one: treering bisect start BAD GOOD"
    if "operation" in facts:
        return "`treering op log` lists the operations there are"
    if "container" in facts:
        return "`treering ps -a` lists the containers"
    if "stash" in facts:
        return (
            "`treering stash list` lists the stashes, `treering stash NAME` puts aside what is changed in a container"
        )
    if "into" in facts:
        return "name another container: treering stash pop --into NAME"
    if "merging" in facts:
        return "`treering merge REV --into CONTAINER` begins one; `treering ps -a` tells where there is one"
    if "merge" in facts:
        return "`treering diff` shows how two commits differ, whatever their history"
    if "network" in facts:
        return "`treering network ls` lists the networks, `treering network create` makes one"
    if "port" in facts:
        return "`treering port NAME` lists those that are published, while it runs"
    if "revision" in facts:
        return "`treering branch` and `treering tag` list names, `treering log BRANCH` the commits of one"
    if "path" in facts:
        return "`treering ls REV:DIRECTORY` lists what is there"
    if "name" in facts:
        return "`treering branch` and `treering tag` list the names there are"
    return ""


_SIGNING = {
    "key": "name one with --key FILE, or have git's config name it: gpg.format=ssh and user.signingKey=FILE, in the "
    "store's history.git. One with a passphrase has to be in the agent: ssh-add FILE. docs/signatures.md",
    "file": "`git config` in the store's history.git sets another; docs/signatures.md",
}


def _bad_input(facts: Facts) -> str:
    if "signing" in facts:
        return _SIGNING[facts["signing"]]
    if "rebasing" in facts:
        commit = facts["rebasing"]
        return (
            f"rebase what comes after it alone: treering rebase --onto NEWBASE {commit} BRANCH; or make one commit of "
            "all with treering squash; or bring the branches together with treering merge"
        )
    if "squashing" in facts:
        return f"`treering log {facts['squashing']}` lists its commits"
    if "bisect" in facts:
        return _BISECT[facts["bisect"]]
    if "lines" in facts:
        return "without --lines, blame tells which commit wrote the file"
    if "layer" in facts:
        return "rename it in a new commit; if only earlier commits have it, leave them out: --layers flat, or since=REV"
    return "say --mainline N: what it did to parent N; 1 is the branch it was made on" if "mainline" in facts else ""


_FIRST = {"stopped": "stop", "running": "start", "unpaused": "unpause"}
"""What makes of a container what is wanted."""


_BISECT = {
    "waiting": "treering bisect bad REV, treering bisect good REV",
    "command": "try it by hand: treering run --rm -it COMMIT sh",
    "empty": "write A..B with the older one first",
}


def _conflict(facts: Facts) -> str:
    if "moved" in facts:
        name, branch, start = facts["merging"], facts["moved"], facts["start"][:12]
        return (
            f"put the branch back (treering branch -f {branch} {start}), continue, and merge what it had got; or keep "
            f"what you settled (treering cp {name}:FILE .), abort, and merge again"
        )
    if "merging" in facts:
        name = facts["merging"]
        return f"end it first: treering merge --continue {name}, or treering merge --abort {name}"
    if "fixed" in facts:
        return (
            "give the right verdict on the same commit, if one was a mistake. To look for the commit that fixed it: "
            "treering bisect reset; treering bisect start; treering bisect old BROKEN; treering bisect new FIXED"
        )
    if "bisect" in facts:
        return "wait until it has ended; `treering bisect status` tells how far it is"
    if "left" in facts or "undoing" in facts:
        return (
            "`treering op log` tells what was done, and `treering reflog NAME` what else has moved a branch. "
            "`treering op restore ID` makes branches and tags what they were after an operation, wherever they are now"
        )
    if "promoted" in facts:
        name, branch = facts["promoted"], facts["branch"]
        return (
            f"see what is there with `treering diff {name} {branch}`; promote it to another branch, or with --force, "
            "which tells how to go back"
        )
    if "image" in facts:
        return (
            "take another branch with --branch; or move it all the same, with --force: `treering undo` brings it back"
        )
    if "expected" in facts and "found" in facts:
        return (
            "somebody else's commits are there, and they are kept. Commit to another branch (--branch NAME), "
            "or look at what is there with `treering log`"
        )
    if "limit" in facts:
        return "free memory in the container first, or let it use more"
    if "network" in facts:
        return "stop the containers first, or remove them: treering stop " + " ".join(facts["containers"])
    if "container" in facts:
        verb = _FIRST.get(facts.get("wanted", "stopped"), "")
        return f"{verb} it first: treering {verb} {facts['container']}" if verb else ""
    if "mountpoint" in facts:
        return "leave it, and close what is open there: `fuser -vm DIRECTORY` tells whose it is"
    if "service" in facts:
        return "to end the service: treering service stop"
    return ""


def _exists(facts: Facts) -> str:
    if "note" in facts:
        return "`treering note append` adds to it, --force replaces it"
    if "bisect" in facts:
        return "`treering bisect status` tells where it is, `treering bisect reset` ends it"
    if "found" in facts:
        return "choose another name, or move it with --force"
    if "mountpoint" in facts:
        return f"away with it: treering umount {facts['mountpoint']}"
    return "choose another path" if "path" in facts else "choose another name"


def _not_a_store(facts: Facts) -> str:
    path = facts.get("path", "PATH")
    return f"make one with `treering --store {path} init`, or name another with --store or TREERING_STORE"


def _missing(facts: Facts) -> str:
    """What root must do before ordinary users can have namespaces (runtime.namespace.needs), or more ids in them."""
    match facts["missing"]:
        case "uidmap":
            return "install it, as root: apt-get install uidmap (the package shadow-utils or shadow elsewhere)"
        case "range":
            span = facts["span"]
            return f"as root: usermod --add-subuids {span} --add-subgids {span} {facts['user']}"
        case "owner":
            return (
                "--no-owners lets all files be yours; root gives you more ids with usermod --add-subuids, --add-subgids"
            )
        case "map":
            return (
                f"/etc/subuid and /etc/subgid must give {facts['user']} ids, and newuidmap and newgidmap be setuid root"
            )
        case "fuse":
            return "as root: modprobe fuse"
        case "root":
            return "use --network bridge, which gives each of your containers a network of its own; or run it as root"
        case "tun":
            return "as root: modprobe tun; or use --network host or none"
        case "tun-mode":
            return "as root: chmod 0666 /dev/net/tun, which is how distributions have it; or use --network host or none"
        case "device":
            return "as root: chmod 0666 /dev/fuse, which is how distributions have it"
        case "sysctl":
            return f"as root: sysctl -w {facts['sysctl']}={facts['value']}"
    return "something on this machine (a security module, a container) forbids user namespaces; run it as root"


_LIBFUSE_NEEDS = (
    "as root: install the packages fuse3 and libfuse2 (of the name libfuse2t64 since Debian 13), and have /dev/fuse of "
    "mode 0666"
)


def _native_needs(facts: Facts) -> str:
    return _missing(facts) if "missing" in facts else "run it as root, where there is /dev/fuse"


def _denied(facts: Facts) -> str:
    match facts.get("driver"):
        case "auto":
            return f"for libfuse, {_LIBFUSE_NEEDS}. For native, {_native_needs(facts)}"
        case "libfuse":
            return f"{_LIBFUSE_NEEDS}; or take another driver: --driver native"
        case "native":
            return f"{_native_needs(facts)}; or let it be mounted for you alone: --driver libfuse"
    if "missing" in facts:
        return _missing(facts)
    if os.geteuid() != 0:
        return "run it as root, or use a store of your own: --store PATH or TREERING_STORE"
    return "look at the file's permissions, and whether its file system is mounted read-only"


def _damaged(facts: Facts) -> str:
    if "bisect" in facts:
        return "`treering bisect reset` ends the bisection; nothing else is lost"
    if "index" in facts:
        return "`treering fsck --rebuild-index` makes the index anew; nothing is lost"
    return "`treering fsck --read-data` tells what else is damaged, and --repair restores what another copy still has"


_ADVICE: dict[type[known.TreeringError], Callable[[Facts], str]] = {
    known.NotFound: _not_found,
    known.BadInput: _bad_input,
    known.Conflict: _conflict,
    known.AlreadyExists: _exists,
    known.SecretsFound: lambda _: (
        "take them out, leave them out with --exclude, or commit them all the same with --allow-secrets. What is "
        "looked for, and how to be warned only (`git config treering.secrets warn` in the store's history.git): "
        "docs/packages.md"
    ),
    known.HookRefused: lambda facts: (
        f"do what {facts['hook']} asks for. Who asks for a commit can leave it out, with --no-verify"
    ),
    known.NotAStore: _not_a_store,
    known.Denied: _denied,
    known.ReadOnly: lambda facts: (
        "leave --at-op out to change what there is now. "
        f"`treering op restore {facts['at_operation']}` makes branches and tags what they were then"
    ),
    known.UnknownFormat: lambda _: "the store was made by another version of treering: use that version for it",
    known.NoSpace: lambda _: "nothing was changed. Make room on that file system, then run the command again",
    known.Damaged: _damaged,
    known.EngineError: lambda facts: str(facts.get("advice", "")),
}


# -- details


def _usage_message(error: click.UsageError) -> str:
    return error.format_message().rstrip(".")


def _usage_advice(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "treering"
    return f"`{path} --help` explains it"


def _os_failure(error: OSError) -> Failure:
    name = error.filename
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    text = f"{name}: {error.strerror}" if name else str(error.strerror)
    hint = "run it as root" if isinstance(error, PermissionError) and os.geteuid() else ""
    return Failure(type(error).__name__, text, hint, {"path": name, "errno": error.errno}, trace=_trace(error))


def _readable(error: known.TreeringError) -> str:
    """The message, with paths as people write them and not as Python does."""
    text = str(error)
    for value in error.facts.values():
        if isinstance(value, bytes):
            text = text.replace(repr(value), quoted(value))
    return text


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) if os.environ.get("TREERING_DEBUG") else ""


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
