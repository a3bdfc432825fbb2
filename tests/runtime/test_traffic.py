"""What goes over a network: a real one, of a namespace of its own, with and without a process in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import traffic
from runtime.traffic import Traffic
from tests.support.containers import environment

PROJECT = Path(__file__).parents[2]
HEAD = b"Inter-|   Receive                 |  Transmit\n face |bytes    packets errs |bytes    packets\n"


@given(st.dictionaries(st.from_regex(r"[a-z@.:]{1,15}", fullmatch=True), st.tuples(*[st.integers(0, 2**63)] * 2)))
def test_all_interfaces_but_the_loopback(interfaces: dict[str, tuple[int, int]]) -> None:
    lines = [f"{name:>6}: {got} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n".encode()
             for name, (got, sent) in interfaces.items()]  # fmt: skip
    others = [amounts for name, amounts in interfaces.items() if name != "lo"]
    found = traffic.parse(HEAD + b"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n" + b"".join(lines))
    assert found == (sum(got for got, _ in others), sum(sent for _, sent in others))


@given(st.binary(max_size=300))
def test_no_text_is_too_odd(text: bytes) -> None:
    traffic.parse(text)


PACKET = """
import fcntl, os, socket, struct, sys
from runtime.system import mounts
mounts.unshare(mounts.CLONE_NEWNET)
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"t0", 0x1001))  # TUNSETIFF: IFF_TUN, IFF_NO_PI
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH22x", b"t0", 0x41))  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
os.write(tun, b"\\x45" + bytes(99))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_network_of_its_own() -> None:
    """A packet of a hundred bytes arrives. Its namespace can be read as long as anybody holds it, from where we are."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PACKET], cwd=PROJECT, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout
        assert int(process.stdout.readline()) == process.pid
        ours = os.readlink("/proc/thread-self/ns/net")
        assert traffic.of_process(process.pid) == Traffic(100, 0)
        assert traffic.of_namespace(f"/proc/{process.pid}/ns/net") == Traffic(100, 0)
        assert os.readlink("/proc/thread-self/ns/net") == ours
        held = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
    finally:
        process.kill()
        process.wait(30)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
    try:
        assert traffic.of_namespace(f"/proc/self/fd/{held}") == Traffic(0, 0), "the interface ended with its process"
    finally:
        os.close(held)
    assert os.readlink("/proc/thread-self/ns/net") == ours
    assert traffic.of_process(process.pid) is None
    assert traffic.of_process(os.getpid()) is None, "it is ours"
    assert traffic.of_namespace("/proc/self/ns/pid") is None, "no network"
    assert traffic.of_namespace("/nope") is None
