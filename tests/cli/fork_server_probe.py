"""A fork server, or a plain process, that tells what it is like instead of running the command line.

python -P -m tests.cli.fork_server_probe server LOCK     a fork server whose children do so
python -P -m tests.cli.fork_server_probe name            what a server's files are called
python -P -m tests.cli.fork_server_probe client [WORD]...    a client; it ends with 99 if it had to go the plain way
python -P -m tests.cli.fork_server_probe plain [WORD]...     a process of its own
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runtime.cli import client, serving

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def tell(arguments: Sequence[str], _: object = None) -> int:
    """Print what a command can know of its process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    facts = {
        "arguments": [list(arguments), sys.argv[1:]],
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "timezone": time.tzname,
        "status": {name: status[name] for name in ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapEff")},
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name},
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": sorted(os.sched_getaffinity(0)),
        "oom": Path("/proc/self/oom_score_adj").read_text(),
        "cgroup": Path("/proc/self/cgroup").read_text(),
        "descriptors": _descriptors(),
        "handlers": [str(signal.getsignal(number)) for number in _HANDLED],
        "streams": [
            (stream.encoding, stream.errors, stream.line_buffering, stream.isatty(), stream.fileno())
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
    }
    print(json.dumps(facts))
    sys.stdout.flush()
    return 7


def _descriptors() -> dict[int, str]:
    """Those that a program would inherit, and where they lead."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.get_inheritable(int(name)):
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def main() -> None:
    how, *rest = sys.argv[1:]
    del sys.argv[1]
    if how == "name":
        sys.stdout.write(client.name_of(client.surroundings()))
    elif how == "server":
        from runtime.cli import takeover

        takeover.run = tell  # type: ignore[attr-defined, assignment]
        serving.main(int(rest[0]))
    elif how == "client":
        code = client.call(sys.argv)
        os._exit(code if code >= 0 else 99)
    else:
        os._exit(tell(rest))


if __name__ == "__main__":
    main()
