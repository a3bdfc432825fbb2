# On a fresh Debian 12 or later, as root:
#   make demo    the story of a container's history, told for real
#   make test    every test
# Both install with apt and pip what is missing, and do nothing of the kind the second time.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Debian's own interpreter where it is new enough: a shim that comes first in PATH may lack the venv module.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
                  && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What containers need: an OCI runtime and the default seccomp profile.
RUN_PACKAGES := python3-venv crun golang-github-containers-common git ca-certificates
# What networks of containers need: bridges for root, and for ordinary users one of the last two.
NETWORK_PACKAGES := containernetworking-plugins iptables passt slirp4netns
# Debian 13 has some things under other names: what fusepy, and so --driver libfuse, needs beside fuse3; and
# qemu-storage-daemon. Told by the version, for a fresh machine has no lists of packages yet.
DEBIAN := $(shell . /etc/os-release; echo $$VERSION_ID)
LIBFUSE := $(if $(filter 12,$(DEBIAN)),libfuse2,libfuse2t64)
QEMU := $(if $(filter 12,$(DEBIAN)),qemu-system-common,qemu-utils)
DEMO_PACKAGES := $(RUN_PACKAGES) mmdebstrap rsync
TEST_PACKAGES := $(RUN_PACKAGES) $(NETWORK_PACKAGES) uidmap runc fuse3 mmdebstrap rsync acl attr libcap2-bin busybox-static zstd xz-utils bzip2 libarchive-tools strace \
    e2fsprogs btrfs-progs gcc libc6-dev redis-server memcached rpm openssh-client skopeo umoci podman docker-registry buildah $(LIBFUSE) \
    $(QEMU) iproute2 xfsprogs stress-ng fio sqlite3 postgresql faketime
BENCH_PACKAGES := $(RUN_PACKAGES) mmdebstrap rsync
# Compared with; one that cannot be installed is left out of the tables.
BENCH_PEERS := restic borgbackup python3-llfuse ostree podman buildah bup casync btrfs-progs fuse3 fuse-overlayfs python3-pyfuse3 $(LIBFUSE)

.PHONY: help setup demo test torture power flood posix fuzz lint format bench clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo 'make lint    ruff, mypy, import-linter'
	@echo 'make torture strike whole commands at each call that changes something (ARGS=--help for options)'
	@echo 'make bench   side by side with other tools (ARGS=--help for options)'
	@echo 'make fuzz    the parsers of foreign bytes, for long (ARGS=--help for options)'
	@echo 'make power   cut the power while commands run, at the level of blocks (ARGS=--help for options)'
	@echo 'make flood   processes that do everything at once and kill one another (ARGS=--help for options)'
	@echo 'make posix   random steps on a container'"'"'s root and on plain file systems (ARGS=--help for options)'
	@echo 'make setup   only the virtual environment in $(VENV)'

setup: $(READY)
	@:

demo:
	@.ci/install-packages $(DEMO_PACKAGES)
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -P docs/demo.py $(ARGS)

test:
	@.ci/install-packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory setup
	@# Tests start thousands of commands; where Python is told to keep no bytecode, each would compile all of it.
	@$(BIN)/python -m compileall -q vcs fusefs runtime
	@$(BIN)/python -P -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile $(ARGS)

# Hours in all: ARGS='--only merge,gc --fault kill' for some of it, '--sample 20' for some points of each.
torture:
	@.ci/install-packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -P -m tests.torture $(ARGS)

# Each an hour or more in all; ARGS='--operations import,commit --filesystems ext4', '--only storm --seconds 60' and so on
# for some of it.
power flood posix:
	@.ci/install-packages $(TEST_PACKAGES)
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -P -m tests.$@ $(ARGS)

bench:
	@.ci/install-packages $(BENCH_PACKAGES)
	@for peer in $(BENCH_PEERS); do .ci/install-packages $$peer || true; done
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -m benchmarks $(ARGS)

# Guided by the branches that inputs reach where atheris can be installed, and blind otherwise.
fuzz: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action ignore 'atheris>=3' || true
	@$(BIN)/python -m tests.fuzz $(or $(ARGS),--seconds 60)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# An editable install, so that only a change of pyproject.toml makes it anew.
$(READY): pyproject.toml
	@echo 'Preparing the virtual environment in $(VENV) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install --quiet --use-pep517 --editable '.[dev]'
	@# setuptools' shim for distutils, which nobody needs: 0.5 ms of every command.
	@rm -f $(VENV)/lib/python3*/site-packages/distutils-precedence.pth
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
