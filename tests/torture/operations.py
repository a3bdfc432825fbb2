"""The commands that are tortured, each with the store that it is run on.

A plain list of words is a command line of treering. Files of the machine are below the place's directory: `root`, a
small root filesystem; `other`, `third` and `fourth`, the same with changes; `layout`, an image; `context`, what a
Dockerfile is built of.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import LayoutMaker, MadeImage, tar
from tests.torture.stores import Place

Step = str | Callable[[Place], None]


@dataclass(frozen=True, slots=True)
class Operation:
    """A command after others. `again` is run when it was killed; the same, if it is not given; the last of several is
    what counts. `is_stepwise`: what is done in several steps, each whole, so that a kill may leave some of them done.

    `live`: steps that are done each time the store was set back, since they start what runs. `stays`: it leaves
    processes behind, which are struck too (tests.torture.running). In commands {registry} is a registry's address.
    """

    name: str
    steps: tuple[Step, ...]
    command: str
    again: tuple[str, ...] = ()
    is_stepwise: bool = False
    live: tuple[Step, ...] = ()
    stays: bool = False


def make_files(directory: Path) -> None:
    """What the operations work with."""
    chance = random.Random(8)
    root = directory / "root"
    for name, text in {
        "etc/motd": "one\ntwo\nthree\nfour\nfive\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "usr/bin/tool": "#!/bin/sh\necho tool\n",
        "var/empty": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "var/data").write_bytes(chance.randbytes(150_000))
    (root / "bin").symlink_to("usr/bin")
    for number in range(12):
        (root / f"var/f{number}").write_bytes(chance.randbytes(2000))
    other = directory / "other"
    shutil.copytree(root, other, symlinks=True)
    (other / "etc/motd").write_text("one\ntwo\nthree\nfour\nFIVE\n")
    (other / "var/f3").unlink()
    (other / "var/added").write_bytes(chance.randbytes(70_000))
    third = directory / "third"
    shutil.copytree(root, third, symlinks=True)
    (third / "etc/motd").write_text("ONE\ntwo\nthree\nfour\nfive\n")
    (third / "var/third").write_text("third\n")
    fourth = directory / "fourth"
    shutil.copytree(third, fourth, symlinks=True)
    (fourth / "etc/motd").write_text("UNO\ntwo\nthree\nfour\nquinque\n")
    maker = LayoutMaker(directory / "layout")
    layers = [tar({"a": None, "a/one": "1" * 5000}), tar({"a/two": "2" * 5000}), tar({"a/.wh.one": ""})]
    history = [{"created_by": f"step {number}"} for number in range(3)]
    maker.name(maker.image(MadeImage(layers, history)), "app:1")
    context = directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM main\nCOPY one /one\nENV A=b\nCOPY two /two\n")
    (context / "one").write_text("one\n" * 100)
    (context / "two").write_text("two\n" * 100)


def _change(name: str = "web") -> Step:
    """Change something in a container that does not run."""
    return f"cp etc-new {name}:/etc/new"


def new_file(place: Place) -> None:
    """Make a file that is not in the root."""
    (place.directory / "etc-new").write_bytes(random.Random(3).randbytes(20_000))


_ONE: tuple[Step, ...] = (new_file, "init", "import root -m first")
_TWO: tuple[Step, ...] = (*_ONE, "branch side", "import other -m second", "import third -b side -m third")
_CONFLICT: tuple[Step, ...] = (*_TWO, "import fourth -b side -m fourth")
_WEB: tuple[Step, ...] = (*_ONE, "create --name web main", _change())
_COMMITTED: tuple[Step, ...] = (
    *_WEB,
    "commit web -m one -b web",
    "cp root/etc/motd web:/etc/more",
)


def _archive(place: Place) -> None:
    with tarfile.open(place.directory / "root.tar", "w") as archive:
        archive.add(place.directory / "root", "")


def _large(place: Place) -> None:
    """What is read, digested, compressed and written by threads."""
    directory = place.directory / "large"
    if directory.exists():
        return
    directory.mkdir()
    (directory / "big").write_bytes(random.Random(5).randbytes(9 << 20))
    for number in range(40):
        (directory / f"f{number}").write_bytes(random.Random(number).randbytes(30_000))


def _settled(place: Place) -> None:
    """Settle the conflict of a merge that waits in a container."""
    place.must("cp", "root/etc/motd", "m:/etc/motd")
    for which in ("ours", "theirs", "base"):
        for upper in place.store.glob("containers/*/gen/*/upper/etc"):
            (upper / f"motd.{which}").unlink(missing_ok=True)
            os.mknod(upper / f"motd.{which}", stat.S_IFCHR)  # as overlayfs notes what was removed


OPERATIONS = {
    one.name: one
    for one in (
        Operation("init", (), "init"),
        Operation("import", (new_file, "init"), "import root -m first"),
        Operation("import-again", _ONE, "import other -m second"),
        Operation("import-large", (_large, "init"), "import large -m first"),
        Operation("import-image", _ONE, "import layout -b app", is_stepwise=True),
        Operation("import-archive", (_archive, "init"), "import root.tar -m first"),
        Operation("save", _TWO, "save side -o saved.tar"),
        Operation("cp", _WEB, "cp etc-new web:/var/new"),
        Operation("cp-over", _WEB, "cp root/etc/motd web:/etc/new"),
        Operation("commit", _WEB, "commit web -m one -b web", is_stepwise=True),  # the container first, then the branch
        Operation("merge", _TWO, "merge side"),
        Operation("merge-into", _CONFLICT, "merge side --into m", is_stepwise=True),
        Operation(
            "merge-continue",
            (*_CONFLICT, "!merge side --into m", _settled),
            "merge --continue",
            is_stepwise=True,
        ),
        Operation("merge-abort", (*_CONFLICT, "!merge side --into m"), "merge --abort", is_stepwise=True),
        Operation("revert", (*_TWO, "import root -m back"), "revert main"),
        Operation("cherry-pick", _TWO, "cherry-pick side"),
        Operation("rebase", (*_TWO, "import other -b side -m more"), "rebase main side --theirs"),
        Operation("squash", (*_TWO, "import fourth -m more"), "squash main~2"),
        Operation("stash", _COMMITTED, "stash web", is_stepwise=True),
        Operation("stash-pop", (*_COMMITTED, "stash web"), "stash pop", is_stepwise=True),
        Operation("stash-apply", (*_COMMITTED, "stash web"), "stash apply", is_stepwise=True),
        Operation("stash-drop", (*_COMMITTED, "stash web"), "stash drop"),
        Operation("branch-move", _TWO, "branch -f side main"),
        Operation("branch", _TWO, "branch new side"),
        Operation("branch-rename", _TWO, "branch -m side deep/er/side", is_stepwise=True),
        Operation("branch-delete", _TWO, "branch -d side"),
        Operation("tag", _TWO, "tag v1 main -m release"),
        Operation("tag-delete", (*_TWO, "tag v1 main -m release"), "tag -d v1"),
        Operation("note-append", (*_TWO, "note add main -m noted"), "note append main -m more"),
        Operation("note-remove", (*_TWO, "note add main -m noted"), "note remove main"),
        Operation("bisect-start", (*_TWO, "import root -m back"), "bisect start main main~2"),
        Operation("bisect-good", (*_TWO, "import root -m back", "bisect start main main~2"), "bisect good"),
        Operation("bisect-reset", (*_TWO, "import root -m back", "bisect start main main~2"), "bisect reset"),
        Operation("note", _TWO, "note add main -m noted"),
        Operation("create", _ONE, "create --name web main"),
        Operation("rename", _WEB, "rename web other"),
        Operation("rollback", _COMMITTED, "rollback web main"),
        Operation("commit-squash", _COMMITTED, "commit web --squash -m all -b all", is_stepwise=True),
        Operation("promote", _WEB, "promote web -b main", is_stepwise=True),
        Operation("update", _WEB, "update --memory 512m web"),
        Operation("fork", _WEB, "fork web --count 3", is_stepwise=True),
        Operation("rm", _COMMITTED, "rm web", is_stepwise=True),
        Operation("rm-all", (*_COMMITTED, "create --name two main", _change("two")), "rm --all", is_stepwise=True),
        Operation("undo", (*_TWO, "branch -d side"), "undo"),
        Operation("undo-rm", (*_COMMITTED, "rm web"), "undo"),
        Operation("undo-rm-all", (*_COMMITTED, "create --name two main", _change("two"), "rm --all"), "undo"),
        Operation("undo-rename", (*_WEB, "rename web other"), "undo"),
        Operation("undo-rollback", (*_COMMITTED, "rollback web main"), "undo", is_stepwise=True),
        Operation("undo-commit", (*_WEB, "commit web -m one -b web"), "undo", is_stepwise=True),
        Operation("undo-fork", (*_WEB, "fork web --count 2"), "undo", is_stepwise=True),
        Operation("redo-fork", (*_WEB, "fork web --count 2", "undo"), "redo", is_stepwise=True),
        Operation("op-restore", (*_TWO, "branch -d side"), "op restore @~2"),
        Operation("undo-forget", (*_COMMITTED, "import other -m second", "forget --keep-last 1 main"), "undo"),
        Operation("undo-merge", (*_TWO, "merge side"), "undo"),
        Operation("redo", (*_TWO, "branch -d side", "undo"), "redo"),
        Operation(
            "forget", (*_COMMITTED, "import other -m second", "import root -m x"), "forget --keep-last 1 --all-branches"
        ),
        Operation("gc", (*_TWO, "branch -d side"), "gc --expire now"),
        Operation("gc-repack", (*_TWO, "branch -d side", "import fourth -m more"), "gc --repack --expire now"),
        Operation("forget-gc", (*_TWO, "import root -m x"), "forget --keep-last 1 --gc main", is_stepwise=True),
        Operation("build", _ONE, "build -t app context -q", is_stepwise=True),
        Operation("rebuild-index", _TWO, "fsck --rebuild-index"),
    )
}


def prepare(place: Place, operation: Operation) -> None:
    """Make the store that an operation is run on, and remember it."""
    if not (place.directory / "root").exists():
        make_files(place.directory)
    place.leave()
    shutil.rmtree(place.store, ignore_errors=True)
    do_steps(place, operation)
    place.keep()


def do_steps(place: Place, operation: Operation) -> None:
    """Do what comes before the command, but for what starts something that runs."""
    take(place, operation.steps)


def take(place: Place, steps: tuple[Step, ...]) -> None:
    """Do steps. One that begins with ! need not succeed."""
    for step in steps:
        if callable(step):
            step(place)
        elif step.startswith("!"):
            place.run(*step[1:].split())
        else:
            place.must(*step.split())
