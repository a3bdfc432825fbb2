"""Other people's programs that know what a file system must do, on a container's root and on a plain overlay.

    python -m tests.posix.suites [NAME...]

Each is a shell script, run twice in real containers: of a commit, and of the same tree as a plain directory of ext4
with an overlay of the same options on it. It must succeed in both, and print the same. Then ours is committed, and what
checks the files is run in a container of the commit as well.

Debian has neither LTP (fsx, fsstress), xfstests nor pjdfstest; tests.posix is the first two's like.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.conftest import Cli, remove_containers
from tests.support.busybox_root import BUSYBOX
from tests.support.containers import bench
from tests.support.service_root import make_service_root

SECONDS = 900
POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Suite:
    """A program's work in a container."""

    programs: tuple[str, ...]
    script: str
    check: str = "true"
    """What is run in a second container, of the commit."""
    user: str = "root"
    trees: tuple[str, ...] = ()
    """Directories of this machine that it needs beside its programs and their libraries."""

    def missing(self) -> list[str]:
        """What this machine lacks for it."""
        return [name for name in self.programs + self.trees if not shutil.which(name) and not Path(name).is_dir()]


def stress(seconds: int, stressors: str) -> Suite:
    """stress-ng, its stressors one after the other, and what they find out told."""
    script = f"""
        cd /work
        stress-ng {stressors} --verify --timeout {seconds} --temp-path /work >log 2>&1 || {{ cat log; exit 1; }}
        if grep -E 'fail|untrustworthy' log | grep -v ': 0$'; then exit 1; fi
        find /work -type f ! -name log
    """
    return Suite(("stress-ng",), script)


def fio(megabytes: int, jobs: str) -> Suite:
    """fio, which writes what it can recognise and reads it again, in a file of the base and in new ones."""
    options = f"--size={megabytes}m --bs=4k-64k --bs_unaligned --verify=crc32c --verify_fatal=1 --randrepeat=1"
    # what is checked later has to be written once, without what is written over itself
    once = f"--size={megabytes}m --bs=16k --verify=crc32c --verify_fatal=1 --randrepeat=1"
    job = """
        cd /work
        job() { fio "$@" > log 2>&1 || { cat log; exit 1; }; }
    """
    script = f"""
        for engine in {jobs}; do
            job --name=new --filename=new-$engine --ioengine=$engine --rw=randrw {options}
            job --name=old --filename=/base/old --ioengine=$engine --rw=randwrite {options}
        done
        job --name=kept --filename=kept --rw=randwrite {once} --do_verify=0
        echo written
    """
    check = f"job --name=kept --filename=kept --rw=randwrite {once} --verify_only"
    return Suite(("fio",), job + script, job + check)


def git(commits: int) -> Suite:
    """git: a repository of the base is cloned, committed to, packed, and all is found whole; the base's own one too."""
    script = f"""
        export HOME=/work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
        git config --global user.name a; git config --global user.email a@b; git config --global safe.directory '*'
        git config --global gc.auto 0
        cd /work; git clone -q /base/repository.git here; cd here
        for n in $(seq {commits}); do
            echo $n >> file$((n % 7)); mkdir -p d$((n % 5)); seq $n 900 > d$((n % 5))/f$((n % 11))
            git add -A; git commit -qm $n
            if [ $((n % 10)) = 0 ]; then git checkout -qb b$n; git mv d0 moved$n || true; git commit -qm moved; fi
        done
        git repack -qad; git gc -q --prune=now; git fsck --full --strict 2>&1; git status --porcelain
        git push -q --all origin; cd /base/repository.git; git gc -q --prune=now; git fsck --full --strict 2>&1
        git for-each-ref; git rev-parse HEAD:
    """
    check = """
        git config --global safe.directory '*'
        for place in /work/here /base/repository.git; do cd $place; git fsck --full --strict; git gc -q; git fsck; done
        cd /work/here; git status --porcelain; git rev-parse HEAD
    """
    return Suite(("git", "git-upload-pack", "git-receive-pack"), script, f"export HOME=/work\n{check}")


def sqlite(rounds: int) -> Suite:
    """sqlite: killed while it writes, again and again; nothing that it said was done is lost, nothing is damaged."""
    script = f"""
        cd /work; mkfifo told
        sqlite3 db 'create table t(n integer primary key, v blob); create index i on t(v);' > /dev/null
        for round in $(seq {rounds}); do
            mode=$([ $((round % 2)) = 0 ] && echo wal || echo delete)
            sqlite3 db "pragma journal_mode=$mode" > /dev/null
            before=$(sqlite3 db 'select count(*) from t')
            for n in $(seq 4000); do echo "insert into t(v) values(randomblob(300)); select 'done';"; done > statements
            sqlite3 db < statements > told & writer=$!
            exec 3< told; for n in $(seq 150); do read line <&3; done
            kill -9 $writer; exec 3<&-; wait $writer || true
            [ $(sqlite3 db 'select count(*) from t') -ge $((before + 150)) ] || echo lost
            sqlite3 db 'pragma integrity_check'
        done
    """
    return Suite(("sqlite3",), script, "sqlite3 /work/db 'pragma integrity_check; vacuum; pragma integrity_check'")


def postgres(transactions: int) -> Suite:
    """PostgreSQL: pgbench, the server killed and recovered; its sums are right, and every index fits its table."""
    newest = max((path.name for path in POSTGRES.glob("[0-9]*")), default="none", key=lambda name: name.zfill(4))
    start = "pg_ctl -D /work/data -l /work/log -o '-k /work -c listen_addresses=' -w start > /dev/null"
    sums = """
        sums="select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
              (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)"
        psql -h /work -Atqc "$sums" postgres; pg_amcheck -h /work --heapallindexed -a 2>&1
        pg_ctl -D /work/data -m fast stop > /dev/null
        pg_checksums -D /work/data --check | grep -i bad
    """
    path = f"export PATH={POSTGRES}/{newest}/bin:$PATH LC_ALL=C HOME=/work"
    script = f"""
        {path}
        initdb -k -D /work/data --no-instructions -A trust > /work/log 2>&1 || {{ cat /work/log; exit 1; }}
        {start}; psql -h /work -qc 'create extension amcheck' postgres
        pgbench -h /work -i -s 2 -q postgres > /work/log2 2>&1
        pgbench -h /work -c 4 -t {transactions} postgres > /work/log2 2>&1
        pgbench -h /work -c 4 -T 600 postgres > /work/log2 2>&1 & client=$!
        enough="select count(*) > {5 * transactions} from pgbench_history"
        until [ $(psql -h /work -Atqc "$enough" postgres) = t ]; do :; done
        kill -9 $(head -1 /work/data/postmaster.pid); wait $client || true
        while pg_isready -q -h /work || fuser /work/data/global/pg_control 2>/dev/null; do :; done
        rm -f /work/.s.PGSQL*; until {start}; do :; done
        {sums}
    """
    return Suite(
        (f"{POSTGRES}/{newest}/bin/pgbench",), script, f"{path}\n{start}\n{sums}", "ana",
        (f"{POSTGRES}/{newest}", f"/usr/share/postgresql/{newest}"),
    )  # fmt: skip


ALL_STRESSORS = "--class filesystem --sequential 1 --exclude binderfs,bind-mount,verity,sync-file"
FEW = (
    "--chmod 1 --chown 1 --copy-file 1 --dentry 1 --dir 1 --dirdeep 1 --fallocate 1 --fpunch 1 --getdent 1 --link 1 "
    "--rename 1 --symlink 1 --utime 1 --xattr 1 --filename 1 --mknod 1 --locka 1 --open 1"
)
SHORT = {"stress-ng": stress(1, FEW), "fio": fio(2, "psync mmap"), "git": git(12), "sqlite": sqlite(2)}
LONG = {
    "stress-ng": stress(3, ALL_STRESSORS), "fio": fio(128, "psync mmap libaio"), "git": git(150), "sqlite": sqlite(20),
    "postgres": postgres(400),
}  # fmt: skip


def make_root(path: Path, suites: Sequence[Suite]) -> Path:
    """A root with what they need: programs, libraries, and something in /base that is written to."""
    programs = [Path(found) for suite in suites for name in suite.programs if (found := shutil.which(name))]
    trees = [Path(tree) for suite in suites for tree in suite.trees]
    inside = [file for tree in trees for file in tree.glob("**/bin/*")]
    make_service_root(path, [*programs, *(program.resolve() for program in [*programs, *inside])])
    for tree in trees:
        shutil.copytree(tree, path / tree.relative_to("/"), symlinks=True, dirs_exist_ok=True)
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout
    for applet in listed.split():
        if not (path / "bin" / applet).is_symlink() and applet != "busybox":
            (path / "bin" / applet).symlink_to("busybox")
    for name in ("work", "base"):
        (path / name).mkdir()
        (path / name).chmod(0o777)
    (path / "base/old").write_bytes(os.urandom(64) * (1 << 15))
    if any("git" in suite.programs for suite in suites):
        _make_repository(path / "base/repository.git")
    return path


def _make_repository(path: Path) -> None:
    stream = b"".join(_commit(number) for number in range(1, 60))
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=stream, check=True)


def _commit(number: int) -> bytes:
    text = b"line %d\n" % number * number
    head = b"commit refs/heads/main\ncommitter a <a@b> %d +0000\ndata 1\nm\n" % (1_700_000_000 + number)
    return b"%bM 100644 inline file%d\ndata %d\n%b\n" % (head, number % 7, len(text), text)


@contextmanager
def prepared(directory: Path, suites: Sequence[Suite]) -> Iterator[tuple[Cli, Path]]:
    """A store with a commit of such a root, and the root."""
    root = make_root(directory / "root", suites)
    cli = Cli(directory / "store")
    cli("init")
    cli("import", str(root), "-m", "suites")
    try:
        yield cli, root
        done = cli.process("fsck", "--read-data")
        assert done.returncode == 0, done.stderr
    finally:
        remove_containers(cli)


def compare(suite: Suite, cli: Cli, root: Path) -> list[str]:
    """What is wrong with a suite's run: lines, or none."""
    script = f"set -e\n{suite.script}"
    name = f"suite-{time.monotonic_ns()}"
    ours = _run(cli, "--name", name, "--user", suite.user, "main", "sh", "-c", script)
    with bench("crun") as place:
        theirs = place.run("sh", "-c", script, lower=root, user=suite.user)
    found = [f"on plain overlay {theirs[0]}: {theirs[1][-3000:]}"] if theirs[0] else []
    if ours != theirs:
        found += [f"in a container {ours[0]}: {ours[1][-3000:]}", f"on plain overlay {theirs[0]}: {theirs[1][-3000:]}"]
    done = cli.process("commit", name, "-m", "ran", "--branch", name)
    if done.returncode:
        return [*found, f"commit: {done.stderr.decode()}"]
    code, text = _run(cli, "--rm", "--user", suite.user, name, "sh", "-c", f"set -e\n{suite.check}")
    return [*found, f"in a container of the commit {code}: {text[-3000:]}"] if code else found


def _run(cli: Cli, *arguments: str) -> tuple[int, str]:
    with tempfile.TemporaryFile() as output:
        process = cli.start("run", *arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        code = process.wait(SECONDS)
        output.seek(0)
        return code, output.read().decode(errors="surrogateescape")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.posix.suites", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("name", nargs="*", choices=[*LONG, []], help=f"of {', '.join(LONG)}; all by default")
    parser.add_argument("--short", action="store_true", help="as in the tests")
    parser.add_argument("--directory", help="where to work; what is made there is removed")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root")
    suites = SHORT if arguments.short else LONG
    failed = 0
    for name in arguments.name or list(suites):
        failed += not _told(name, suites[name], arguments.directory)
    return 1 if failed else 0


def _told(name: str, suite: Suite, directory: str | None) -> bool:
    if missing := suite.missing():
        print(f"{name}: left out, for there is no {', '.join(missing)}", flush=True)
        return True
    with tempfile.TemporaryDirectory(prefix="suites-", dir=directory) as place:
        began = time.monotonic()
        with prepared(Path(place), [suite]) as (cli, root):
            wrong = compare(suite, cli, root)
        seconds = time.monotonic() - began
        print(f"{name}: {'DIFFERS' if wrong else 'the same'}, {seconds:.0f} s", *wrong, sep="\n", flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
