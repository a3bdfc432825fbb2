"""Starts a container as a program of its own, for tests that feed it, signal it or kill it: `launch_main.py JSON`.

The argument holds the paths, the lower and the fields of a LaunchSpec. Exits with the container's code; an error is one
line on stderr and 125, or what the error says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from runtime.bundle import LaunchSpec
from runtime.state import RunPaths
from runtime.supervision.launch import launch
from vcs.errors import TreeringError


def main(text: str) -> int:
    job = json.loads(text)
    spec = msgspec.convert(job["spec"], LaunchSpec)
    try:
        return launch(RunPaths(*map(Path, job["paths"])), spec, {}, Path(job["lower"]))
    except TreeringError as error:
        print(f"treering: {error}", file=sys.stderr)
        return int(error.facts.get("exit_code", 125))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
