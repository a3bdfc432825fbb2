"""A Debian root with work in it: a large git work tree, a C program, a package to install without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.corpora.content import Content
from benchmarks.corpora.history import copy

FILES = 20_000
"""Of the git work tree."""
TREE = "/srv/tree"
PROGRAM = "/srv/program"
PACKAGE = "vim"
"""With what it depends on: about 2,100 files, 41 MB."""
_PACKAGES = "/srv/packages"
_SEED = 20_260_311
_TIME = 1_700_000_000
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "GIT_AUTHOR_NAME": "Benchmark",
    "GIT_AUTHOR_EMAIL": "benchmark@localhost",
    "GIT_AUTHOR_DATE": f"{_TIME} +0000",
    "GIT_COMMITTER_NAME": "Benchmark",
    "GIT_COMMITTER_EMAIL": "benchmark@localhost",
    "GIT_COMMITTER_DATE": f"{_TIME} +0000",
}
_APT = """\
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
DPkg::Options { "--force-unsafe-io"; };
DPkg::Use-Pty "false";
"""
_FETCH = f"""\
apt-get -q update
apt-get -q --yes --download-only install {PACKAGE}
mkdir -p {_PACKAGES}
mv /var/cache/apt/archives/*.deb {_PACKAGES}
cd {_PACKAGES}
dpkg-scanpackages . >Packages
rm -rf /var/lib/apt/lists/* /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:{_PACKAGES} ./' >/etc/apt/sources.list
apt-get -q update
"""
_COMMIT = f"""\
cd {TREE}
git -c init.defaultBranch=main init --quiet
git add --all
git -c gc.auto=0 commit --quiet --message 'work'
git repack -adq
"""
_TABLE_H = """\
#include <stddef.h>

struct word { struct word *next; unsigned long count; char text[]; };
struct table { struct word **places; size_t size, used; };

void table_add(struct table *table, const char *text, size_t length);
struct word **table_sorted(const struct table *table);
"""
_TABLE_C = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "table.h"

static unsigned long hash(const char *text, size_t length) {
    unsigned long value = 14695981039346656037ul;
    for (size_t at = 0; at < length; at++) value = (value ^ (unsigned char)text[at]) * 1099511628211ul;
    return value;
}

static void grow(struct table *table) {
    size_t size = table->size ? table->size * 2 : 64;
    struct word **places = calloc(size, sizeof *places);
    if (!places) { perror("calloc"); exit(1); }
    for (size_t at = 0; at < table->size; at++)
        for (struct word *word = table->places[at], *next; word; word = next) {
            size_t place = hash(word->text, strlen(word->text)) % size;
            next = word->next;
            word->next = places[place];
            places[place] = word;
        }
    free(table->places);
    table->places = places;
    table->size = size;
}

void table_add(struct table *table, const char *text, size_t length) {
    if (table->used >= table->size) grow(table);
    struct word **place = &table->places[hash(text, length) % table->size];
    for (struct word *word = *place; word; word = word->next)
        if (strlen(word->text) == length && !memcmp(word->text, text, length)) { word->count++; return; }
    struct word *word = malloc(sizeof *word + length + 1);
    if (!word) { perror("malloc"); exit(1); }
    memcpy(word->text, text, length);
    word->text[length] = 0;
    word->count = 1;
    word->next = *place;
    *place = word;
    table->used++;
}

static int more(const void *one, const void *other) {
    const struct word *left = *(struct word *const *)one, *right = *(struct word *const *)other;
    if (left->count != right->count) return left->count < right->count ? 1 : -1;
    return strcmp(left->text, right->text);
}

struct word **table_sorted(const struct table *table) {
    struct word **all = malloc(table->used * sizeof *all), **end = all;
    if (!all) { perror("malloc"); exit(1); }
    for (size_t at = 0; at < table->size; at++)
        for (struct word *word = table->places[at]; word; word = word->next) *end++ = word;
    qsort(all, table->used, sizeof *all, more);
    return all;
}
"""
_COUNT_C = """\
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "table.h"

int main(int count, char **words) {
    struct table table = {0};
    char line[4096];
    for (int at = 1; at < count; at++) {
        FILE *file = fopen(words[at], "r");
        if (!file) { fprintf(stderr, "%s: %s\\n", words[at], strerror(errno)); return 1; }
        while (fgets(line, sizeof line, file))
            for (char *here = line; *here;) {
                while (*here && !isalnum((unsigned char)*here)) here++;
                char *start = here;
                while (isalnum((unsigned char)*here)) here++;
                if (here > start) table_add(&table, start, here - start);
            }
        fclose(file);
    }
    struct word **all = table_sorted(&table);
    for (size_t at = 0; at < table.used && at < 10; at++) printf("%6lu %s\\n", all[at]->count, all[at]->text);
    return 0;
}
"""


def workplace(place: Path, root: Path, files: int = FILES) -> None:
    """Copy a Debian root (with python3, build-essential and git in it) to `place`, and add the work.

    The network is asked for the package, once.
    """
    copy(root, place)
    (place / "etc/apt/apt.conf.d/90benchmark").write_text(_APT)
    refuse = place / "usr/sbin/policy-rc.d"  # no service is started in a chroot
    refuse.write_text("#!/bin/sh\nexit 101\n")
    refuse.chmod(0o755)
    program = place / PROGRAM[1:]
    program.mkdir(parents=True)
    for name, text in (("table.h", _TABLE_H), ("table.c", _TABLE_C), ("count.c", _COUNT_C)):
        (program / name).write_text(text)
    work_tree(place / TREE[1:], files)
    _inside(place, _COMMIT)
    _inside(place, _FETCH)
    shutil.rmtree(place / "var/cache/apt/archives", ignore_errors=True)
    (place / "var/cache/apt/archives/partial").mkdir(parents=True)


def work_tree(place: Path, files: int) -> None:
    """Source files in directories three deep, by seed, a dozen in each: as a large project has them."""
    content = Content(_SEED)
    for number in range(files):
        directory = place / f"part{number // 1_200}" / f"{content.words[number // 12 % 100]}{number // 12}"
        if number % 12 == 0:
            directory.mkdir(parents=True)
        size = min(int(content.random.lognormvariate(7.4, 1.0)) + 1, 64 << 10)
        file = directory / f"{content.word()}{number}.c"
        file.write_bytes(content.source(size))
        os.utime(file, (_TIME, _TIME))


def _inside(root: Path, script: str) -> None:
    done = subprocess.run(
        ["chroot", root, "sh", "-ec", script], env=_ENVIRONMENT, capture_output=True, stdin=subprocess.DEVNULL,
        check=False, timeout=900,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).decode(errors="replace")[-1500:])
