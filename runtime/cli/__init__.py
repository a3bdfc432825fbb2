"""The command line: the only importer of click, and the only part that prints, reads the environment or exits.

    program      the verbs, found lazily, and what happens around each: errors, pipes that close, Ctrl-C
    invocation   one run: the store, the author, revisions
    options      options and argument types that verbs share
    errors       what to do about each error, and the exit codes: here and only here
    output       data to stdout as table, JSON or JSON lines    quoting   odd names, made safe for a terminal
    pager, progress, render_*                                   completion   what a shell asks for
    store, importing, exporting, history, compare, refs, files,
    sbom, run, lifecycle, execution, copying, inspection, logs, containers,
    states, forking, comparing, mounting, service, namespaces,
    shell, collect, usage, forget, fsck, metering,
    updating, network, operations, blame, searching,
    merging, notes, signing, rewriting, stash, bisect,
    pulling, saving, building                            the verbs, one module a group
    resolving    merge --continue, --abort, --status
    several      a verb on several containers                    filtering     which containers ps lists
    layerlines   a line for each layer of a pull
    starting     what run, start and restart do alike            images        what import and pull do alike
    secrets      what commit, import and build say           storehooks    what verbs say of the store's hooks
    times        as people give them                         reconciling   after a supervisor was killed
    run_options, run_settings, specs, variables      the options of `run` and `create`, and what they come to
    client       the thin client of a fork server           forkserver   the process that forks a child for each command
    serving      what that process does                     takeover     what a child of it does
    preloading   what it has imported                       rehearsal    what of its memory its children write to
    watching     whether its files have changed
    linediff     lines that differ                              reference   writes docs/cli.md
    graph        a history drawn beside its commits

One rule: starting must cost little. A module here imports at its top only what every one of its verbs needs, the client
next to nothing, and `--version` is answered before anything is imported.
"""

import os
import sys


def main() -> None:
    """The `treering` script."""
    if sys.argv[1:] == ["--version"]:
        from runtime import __version__

        sys.stdout.write(f"treering {__version__}\n")
        return
    from runtime.cli import client

    code = client.call(sys.argv)
    is_alone = code == client.ALONE
    if code < 0:
        code = _run_plainly()
    if is_alone:
        from runtime.cli import forkserver

        forkserver.start()
    # Everything is closed and written; taking the interpreter down module by module would cost another 20 ms.
    os._exit(code)


def _run_plainly() -> int:
    import gc

    # A command makes no garbage in cycles worth collecting while it imports: 10 ms less.
    gc.set_threshold(100_000, 20, 50)
    from runtime.cli.program import run

    return run(sys.argv[1:])
