"""Workers whose holder is gone: nobody else looks after what one that dies now has in hand.

Each looks at all slots of the request memory, four times a second, for one whose worker is dead:

    a worker that serves   answers the request that is left there
    a spare                takes the place of the first that it finds, and begins with that request

Several may answer the same request: the first answer counts, and the kernel refuses the others. Nobody writes to a slot
but whose it is, or who takes it over. Crashes are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fusefs.memory import RequestMemory, Slot
from fusefs.process import is_dead, state_of

_TICK = 0.25
"""Seconds between two looks."""


def next_vacancy(memory: RequestMemory) -> Slot | None:
    """Wait until a worker is dead; its slot. None if no worker has ever served."""
    while True:
        slots = [slot for slot in memory.slots() if slot.owner]
        if not slots:
            return None
        for slot in slots:
            if _is_dead(slot.owner):
                return slot
        time.sleep(_TICK)


def answer_for_the_dead(memory: RequestMemory, answer: Callable[[bytes], None]) -> None:
    """Pass on what workers had in hand when they died, once; for as long as this process lives."""
    found: set[int] = set()
    while True:
        for slot in memory.slots():
            owner = slot.owner
            if owner and owner not in found and _is_dead(owner):
                request = slot.request
                if slot.owner != owner:
                    continue  # a spare has taken the place meanwhile, and the request with it
                found.add(owner)
                if request:
                    answer(request)
        time.sleep(_TICK)


def _is_dead(pid: int) -> bool:
    """Whether a worker is; also if a thread of it waits for a page, which only another worker brings."""
    return is_dead(state_of(pid))
