"""The machine's packet filter: what bridges may, and what is theirs alone. All of it is iptables(8)'s.

    filter  FORWARD → TREERING-FORWARD → TREERING-NETWORKS      the same for all networks, then one's
            INPUT   → TREERING-INPUT
    nat     POSTROUTING                                         a rule for each network that has a way out

The names of our bridges begin with BRIDGE, those of internal networks with INTERNAL, so that few rules suffice for all:

- who is on one network reaches nobody on another, nor does anybody from outside reach him, but by published ports
  (which the portmap plugin redirects: conntrack's state DNAT);
- who is on a network with a way out reaches the rest of the world, with the machine's address;
- nobody reaches what listens on the machine's loopback: publishing on 127.0.0.1 switches route_localnet on for a
  bridge, and without a rule that opens the loopback to it (CVE-2020-8558).

The callers hold `namespace.locked()`. What is there already is not made again; four looks at it take 7 ms.
"""

from __future__ import annotations

import os
from pathlib import Path

from runtime.engine import SEARCH_PATH
from vcs.errors import EngineError

BRIDGE, INTERNAL = "trg-", "tri-"

_SECONDS = 60
_WAIT = "20"
"""Seconds that iptables waits for whoever else changes the tables."""
_FORWARD, _INPUT, _NETWORKS = "TREERING-FORWARD", "TREERING-INPUT", "TREERING-NETWORKS"

_CHAINS = f"""*filter
:{_FORWARD} - [0:0]
:{_INPUT} - [0:0]
-A {_FORWARD} -j {_NETWORKS}
-A {_FORWARD} -i {INTERNAL}+ -j DROP
-A {_FORWARD} -o {INTERNAL}+ -j DROP
-A {_FORWARD} -o {BRIDGE}+ -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A {_FORWARD} -o {BRIDGE}+ -j DROP
-A {_FORWARD} -i {BRIDGE}+ -j ACCEPT
-A {_INPUT} -i {BRIDGE}+ -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A {_INPUT} -i {INTERNAL}+ -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
"""
"""Declaring a chain empties it, so that this can be repeated."""
_JUMPS = (("FORWARD", _FORWARD), ("INPUT", _INPUT))
_ABSENT = (1, 2)
"""How iptables ends if there is no such rule, or no such chain. With anything else it could not look or do, as when
somebody else holds its lock (4)."""


def check() -> None:
    """EngineError if what this module needs is not installed."""
    for name in ("iptables", "iptables-restore"):
        _program(name)


def allow(bridge: str, subnet: str) -> None:
    """Let a bridge do what a network may. EngineError."""
    if not all(_has("filter", chain, "-j", target) for chain, target in (*_JUMPS, (_FORWARD, _NETWORKS))):
        _try("-t", "filter", "-N", _NETWORKS)
        _run([*_program("iptables-restore"), "--noflush", f"--wait={_WAIT}"], _CHAINS)
        for chain, target in _JUMPS:
            if not _has("filter", chain, "-j", target):
                _iptables("-t", "filter", "-I", chain, "-j", target)
    for table, chain, rule in _rules(bridge, subnet):
        if not _has(table, chain, *rule):
            _iptables("-t", table, "-A", chain, *rule)


def forbid(bridge: str, subnet: str, *, last: bool) -> None:
    """Remove a network's rules, and with the `last` network of the machine those of all. EngineError."""
    for table, chain, rule in _rules(bridge, subnet):
        while _has(table, chain, *rule):
            _iptables("-t", table, "-D", chain, *rule)
    if last:
        for chain, target in _JUMPS:
            while _has("filter", chain, "-j", target):
                _iptables("-t", "filter", "-D", chain, "-j", target)
        for chain in (_FORWARD, _INPUT, _NETWORKS):
            _try("-t", "filter", "-F", chain)
            _try("-t", "filter", "-X", chain)


def _rules(bridge: str, subnet: str) -> list[tuple[str, str, tuple[str, ...]]]:
    # Frames from one member to another pass here too where the sysctl net.bridge.bridge-nf-call-iptables is on.
    rules: list[tuple[str, str, tuple[str, ...]]] = [
        ("filter", _NETWORKS, ("-i", bridge, "-o", bridge, "-j", "ACCEPT"))
    ]
    if bridge.startswith(BRIDGE):
        way_out = ("-s", subnet, "!", "-o", bridge, "!", "-d", "224.0.0.0/4", "-j", "MASQUERADE")
        rules.append(("nat", "POSTROUTING", way_out))
    return rules


def _has(table: str, chain: str, *rule: str) -> bool:
    """EngineError if that cannot be told: what is taken for absent is not removed."""
    return _try("-t", table, "-C", chain, *rule)


def _try(*arguments: str) -> bool:
    """Whether something could be done, which it cannot be to what is absent. EngineError if it failed otherwise."""
    command = [*_program("iptables"), "-w", _WAIT, *arguments]
    code, said = _call(command)
    if code and code not in _ABSENT:
        raise _failure(command, code, said)
    return code == 0


def _iptables(*arguments: str) -> None:
    _run([*_program("iptables"), "-w", _WAIT, *arguments])


def _run(command: list[str], text: str = "") -> None:
    code, said = _call(command, text)
    if code:
        raise _failure(command, code, said)


def _failure(command: list[str], code: int, said: str) -> EngineError:
    what = " ".join(said.split()) or f"it exited with {code}"
    return EngineError(f"{Path(command[0]).name} failed: {what}", command=" ".join(command))


def _call(command: list[str], text: str = "") -> tuple[int, str]:
    import subprocess

    try:
        done = subprocess.run(
            command, input=text, text=True, errors="replace", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={"PATH": SEARCH_PATH}, timeout=_SECONDS, check=False, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineError(f"{command[0]} did not end within {_SECONDS} s", command=" ".join(command)) from None
    return done.returncode, done.stderr


def _program(name: str) -> list[str]:
    """EngineError if it is not installed."""
    for folder in SEARCH_PATH.split(":"):
        if os.access(path := f"{folder}/{name}", os.X_OK):
            return [path]
    raise EngineError(
        f"there is no {name}, which a bridge network needs", program=name,
        advice="install it: apt-get install iptables; or use --network host or none",
    )  # fmt: skip
