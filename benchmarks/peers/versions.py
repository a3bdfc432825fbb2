"""Tools with commits and branches: git and ostree."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from benchmarks.measure import Run, run
from benchmarks.peers.peer import Peer


class Git(Peer):
    """Committed from outside: the repository is not in the tree."""

    name = "git"
    program = "git"
    note = "git keeps no owners, times, extended attributes, hard links, devices or empty directories."

    def prepare(self, place: Path) -> None:
        run(["git", "init", "--quiet", "--bare", "--initial-branch=main", place])

    def save(self, place: Path, source: Path, label: str) -> Run:
        done = self._git(place, source, "add", "--all")
        done += self._git(place, source, "commit", "--quiet", "--allow-empty", "--message", label)
        self._git(place, source, "tag", label)
        return self.durable(place, done)

    def diff(self, place: Path, old: str, new: str) -> Run:
        return self._git(place, place, "diff", "--name-status", old, new)

    def branch(self, place: Path, label: str, name: str) -> Run:
        return self.durable(place, self._git(place, place, "branch", name, label))

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        target.mkdir()
        done = run(["git", f"--git-dir={place}", f"--work-tree={target}", "checkout", "--force", label, "--", "."])
        return done + run(["sync", "-f", target])

    def repack(self, place: Path) -> Run:
        return self.durable(place, self._git(place, place, "repack", "-adq", "--depth=50", "--window=50"))

    def _git(self, place: Path, work: Path, *words: str) -> Run:
        settings = ("user.name=Benchmark", "user.email=benchmark@localhost", "safe.directory=*", "gc.auto=0",
                    "core.bare=false", "advice.addEmbeddedRepo=false")  # fmt: skip
        options = [word for setting in settings for word in ("-c", setting)]
        return run(["git", *options, f"--git-dir={place}", f"--work-tree={work}", *words])


class Ostree(Peer):
    """A repository of mode `archive`, whose files are compressed."""

    name = "ostree"
    program = "ostree"
    syncs = True  # core.fsync is on by default
    note = "ostree keeps no times, hard links, devices or directories of them, and refuses names that are not UTF-8."

    def prepare(self, place: Path) -> None:
        run(["ostree", "init", f"--repo={place}", "--mode=archive"])

    def save(self, place: Path, source: Path, label: str) -> Run:
        skip = place.with_suffix(".skip")
        skip.write_bytes(b"".join(path + b"\n" for path in _with_specials(source)))
        words = ("commit", f"--repo={place}", "--branch=main", f"--subject={label}", f"--skip-list={skip}")
        done = run(["ostree", *words, f"--tree=dir={source}"])
        skip.unlink()
        run(["ostree", "refs", f"--repo={place}", f"--create={label}", "main"])
        return self.durable(place, done)

    def diff(self, place: Path, old: str, new: str) -> Run:
        return run(["ostree", "diff", f"--repo={place}", old, new])

    def branch(self, place: Path, label: str, name: str) -> Run:
        return run(["ostree", "refs", f"--repo={place}", f"--create={name}", label])

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        return run(["ostree", "checkout", f"--repo={place}", label, target]) + run(["sync", "-f", target])


def _with_specials(source: Path) -> list[bytes]:
    """Directories that hold a device, a pipe or a socket, from the tree's top.

    ostree stops at such a file before it looks whether the file is to be skipped; it does skip a directory.
    """
    top = os.fsencode(source)
    found = []
    for directory, _, files in os.walk(top):
        modes = (os.lstat(os.path.join(directory, name)).st_mode for name in files)
        if any(not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) for mode in modes):
            found.append(directory[len(top) :])
    return found
