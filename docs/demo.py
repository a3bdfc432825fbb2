"""`make demo`: the story of a container's history, told for real with the `treering` command.

Builds a Debian root with mmdebstrap, imports it into a store of its own, installs nginx in a container, commits it, and
goes on from there. Every line of output is the commands' own; nothing is faked: where the network cannot be reached,
the demo says so and makes another change. It ends with what each step cost, and leaves nothing mounted or running.

    make demo                               everything new, in a temporary directory
    make demo ARGS='--root DIR'             with a root filesystem that is there already (it is only read)
    make demo ARGS='--work DIR --keep'      keep store and root, to look around afterwards
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,build-essential,git"
TREERING = Path(sys.executable).parent / "treering"
_LINES = 14


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step took: seconds, and bytes of disk in the history and in the containers."""

    step: str
    seconds: float
    history: int
    containers: int


class Story:
    """Runs commands, shows them, and keeps account."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.store = work / "store"
        self.costs: list[Cost] = []
        self._color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self.environment = {
            "TREERING_AUTHOR_NAME": "Demo",
            "TREERING_AUTHOR_EMAIL": "demo@localhost",
            **os.environ,
            "TREERING_STORE": str(self.store),
        }

    def say(self, text: str) -> None:
        """A line of narration."""
        print(f"\n{self._styled(text, '1')}", flush=True)

    def treering(self, *words: str, step: str = "", lines: int = _LINES, ok: Sequence[int] = (0,)) -> str:
        """Run a treering command, show its first lines, and note its cost. Returns all it printed."""
        before = self._used()
        started = time.monotonic()
        output, code = self.show([str(TREERING), *words], ["treering", *words], lines)
        seconds = time.monotonic() - started
        if code not in ok:
            raise SystemExit(f"the demo stops here: treering {words[0]} ended with {code}")
        after = self._used()
        self.costs.append(Cost(step or words[0], seconds, after[0] - before[0], after[1] - before[1]))
        return output

    def show(self, command: Sequence[str | Path], shown: Sequence[str], lines: int = _LINES) -> tuple[str, int]:
        """Run any command and show its first lines; what it says on stderr appears as it comes."""
        print(self._styled(f"$ {shlex.join(map(str, shown))}", "36"), flush=True)
        found: list[str] = []
        with subprocess.Popen(
            command, cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True, errors="backslashreplace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                found.append(line)
                if len(found) <= lines:
                    print(line, end="", flush=True)
        if len(found) > lines:
            print(self._styled(f"  ({len(found) - lines:,} more lines)", "2"), flush=True)
        return "".join(found), process.returncode

    def same(self, one: Path, other: Path) -> None:
        """Show that rsync finds no difference: contents, owners, modes, times (ns), attributes, ACLs, hard links."""
        options = ["-aHAXn", "--delete", "--checksum", "--itemize-changes", "--modify-window=-1"]
        output, code = self.show(
            ["rsync", *options, f"{one}/", f"{other}/"], ["rsync", *options, *map(str, (one, other))]
        )
        if output or code:
            raise SystemExit("the demo stops here: the two differ")
        print("rsync finds no difference.")

    def table(self) -> None:
        """What every step cost."""
        self.say(
            "What each step cost (disk used in the store; a container's writes are its own until they are committed):"
        )
        print(f"{'':28}{'seconds':>9}{'history':>14}{'containers':>14}")
        for cost in self.costs:
            print(f"{cost.step:28}{cost.seconds:>9.2f}{_bytes(cost.history):>14}{_bytes(cost.containers):>14}")

    def _used(self) -> tuple[int, int]:
        containers = disk_usage(self.store / "containers")
        return disk_usage(self.store) - containers, containers

    def _styled(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._color else text


def tell(story: Story, root: Path) -> None:
    """The story, from an empty store to a checked one."""
    story.say("An empty store, and a whole Debian root in it as the first commit.")
    story.treering("init")
    story.treering("import", str(root), "--branch", "main", "-m", "Debian base", step="import of a Debian root")
    story.treering("import", str(root), "--branch", "again", "-m", "The same once more", step="the same import again")

    changed = install(story)
    story.say("What has changed? Then commit it, on a branch of its own.")
    story.treering("status", "web", lines=8)
    story.treering("commit", "web", "-m", changed, "--branch", "nginx", step="commit of that")
    story.treering("log", "nginx")
    story.treering("show", "nginx", lines=24)
    story.treering("diff", "main", "nginx", "--stat", step="diff --stat", lines=8)
    story.treering("diff", "main", "nginx", "--", "etc/nginx", step="diff of a directory", lines=6)

    story.say("Branches and tags cost nothing. Try something on one of them.")
    story.treering("branch", "exp", "nginx")
    story.treering("tag", "v1", "nginx")
    try_out = 'echo "a line" >> /etc/motd; rm -r /usr/share/doc; mv /etc/skel /etc/skeleton; tty'
    story.treering("run", "-t", "--name", "trial", "exp", "--", "sh", "-c", try_out, step="run on exp, with a terminal")
    story.treering("commit", "trial", "-m", "An experiment", "--branch", "exp", step="commit of the experiment")
    story.treering("diff", "nginx", "exp", "--", "etc", step="diff of the experiment")
    story.treering("branch")
    story.treering("tag")

    story.say("Roll the container back to plain Debian. Nothing newer is destroyed, so that can be taken back too.")
    story.treering("rollback", "web", "main")
    story.treering("rollback", "web", "--undo", step="undo the rollback")

    story.say("Five new containers from its state: they share everything until they write.")
    story.treering("fork", "web", "--count", "5")
    story.treering("ps", "-a")

    story.say("Any commit can be looked into: by name, or mounted, with ordinary tools.")
    story.treering("ls", "nginx:/etc")
    story.treering("cat", "nginx:/etc/os-release", lines=3)
    look_around(story)

    story.say("Exported, it is byte for byte what was imported; as an archive too.")
    story.treering("export", "main", "copy", step="export to a directory")
    story.same(root, story.work / "copy")
    story.treering("export", "main", "-o", "main.tar", step="export to an archive")
    (story.work / "unpacked").mkdir()
    unpack = [
        "tar",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--numeric-owner",
        "-xpf",
        "main.tar",
        "-C",
        "unpacked",
    ]
    story.show(unpack, unpack)
    story.same(root, story.work / "unpacked")

    story.say("The history is a git repository: stock git reads it.")
    git = ["git", "-c", "safe.directory=*", "-C", "store/history.git"]
    for words in (["log", "--oneline", "--graph", "--branches", "--tags"], ["log", "--stat", "-1", "main"], ["fsck"]):
        story.show([*git, *words], ["git", *git[3:], *words])

    story.say("Take the containers away, and check every byte that is left.")
    story.treering("rm", "web", "trial", *(f"web-{number}" for number in range(1, 6)), step="rm of seven containers")
    story.treering("fsck")


def install(story: Story) -> str:
    """Change a lot in a container: nginx, or something that needs no network. Returns what to call it."""
    story.say("A container on it: install nginx.")
    script = "apt-get update && apt-get install -y nginx-light"
    options = ["--name", "web", "-e", "DEBIAN_FRONTEND=noninteractive"]
    story.treering("run", *options, "main", "--", "sh", "-c", script, step="run: install nginx", lines=6, ok=range(125))
    if installed(story):
        return "nginx"
    story.say("Debian's packages cannot be reached from the container, so here is a change that needs no network.")
    story.treering("rm", "web")
    script = "for n in $(seq 300); do echo page $n > /srv/page-$n.html; done; apt-get --version > /srv/version"
    story.treering("run", "--name", "web", "main", "--", "sh", "-c", script, step="run: write a site")
    return "A site"


def installed(story: Story) -> bool:
    """Whether the container has an nginx now."""
    found = subprocess.run([TREERING, "status", "web"], env=story.environment, capture_output=True, text=True)
    return "/usr/sbin/nginx" in found.stdout


def look_around(story: Story) -> None:
    """Mount the commits, compare two with diff(1), and unmount."""
    story.treering("mount", "mnt")
    story.show(["ls", "mnt", "mnt/branches", "mnt/tags"], ["ls", "mnt", "mnt/branches", "mnt/tags"])
    compare = ["diff", "-rq", "--no-dereference", "mnt/branches/nginx/etc", "mnt/branches/exp/etc"]
    story.show(compare, compare)
    story.treering("umount", "mnt")


def debian(story: Story) -> Path:
    """Make a Debian root with Debian's own packages."""
    story.say("A Debian root with Python, a compiler and git, out of Debian's packages:")
    root = story.work / "debian"
    verbosity = [] if sys.stderr.isatty() else ["--quiet"]
    command = ["mmdebstrap", *verbosity, "--variant=apt", f"--include={PACKAGES}", SUITE, "debian"]
    if story.show(command, command)[1]:
        raise SystemExit(
            "mmdebstrap could not make a root; is the network there? `make demo ARGS='--root DIR'` takes another"
        )
    return root


def disk_usage(top: Path) -> int:
    """Bytes of disk below a directory, each file once; neither what is mounted there nor what vanishes meanwhile."""
    total = 0
    seen = set()
    device = top.lstat().st_dev if top.exists() else 0
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            try:
                status = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            if status.st_dev != device and name in names:
                names.remove(name)
            elif status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def _bytes(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(number) >= size:
            return f"{number / size:+.1f} {unit}"
    return f"{number:+} B" if number else "-"


def clean_up(story: Story, keep: bool) -> None:
    """Stop what runs and unmount what is mounted; remove everything unless it is to be kept."""
    for words in (["umount", "mnt"], ["service", "stop", "--force"]):
        subprocess.run([TREERING, *words], cwd=story.work, env=story.environment, capture_output=True, timeout=60)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([place for place in mounts if place.startswith(f"{story.work}/")]):
        subprocess.run(["umount", "--lazy", place], check=False)
    if keep:
        print(f"Kept: {story.work}")
    else:
        shutil.rmtree(story.work)


def remove_containers(story: Story) -> None:
    """For a story that was interrupted: stop and remove whatever it has begun."""
    found = subprocess.run([TREERING, "ps", "-aq"], env=story.environment, capture_output=True, text=True)
    for name in found.stdout.split():
        subprocess.run([TREERING, "rm", "--force", name], env=story.environment, capture_output=True, timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description="The story of a container's history, told for real.")
    parser.add_argument("--root", type=Path, help="a root filesystem to import instead of a new Debian")
    parser.add_argument("--work", type=Path, help="where to work (default: a new directory in /var/tmp)")
    parser.add_argument("--keep", action="store_true", help="remove nothing afterwards")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("The demo builds a root filesystem and runs containers: run it as root.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    if options.work:
        options.work.mkdir(parents=True)
    work = (options.work or Path(tempfile.mkdtemp(prefix="treering-demo-", dir="/var/tmp"))).resolve()
    story = Story(work)
    started = time.monotonic()
    try:
        root = options.root.resolve() if options.root else debian(story)
        tell(story, root)
        story.table()
        used, kept = (_bytes(disk_usage(place))[1:] for place in (root, story.store))
        print(f"\nThe root takes {used} on disk; the store, with every state seen here, {kept}.")
        print(f"The whole demo took {time.monotonic() - started:.0f} s.")
    except BaseException:
        remove_containers(story)
        raise
    finally:
        clean_up(story, options.keep)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
