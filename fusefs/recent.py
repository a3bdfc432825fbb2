"""What was used last: a mapping that forgets the oldest when it grows too heavy."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values up to a total weight, in the caller's unit; the newest one stays, however heavy it is."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._weight = 0

    def get(self, key: Key) -> Value | None:
        """The value, which thereby is the one used last."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Key, value: Value, weight: int) -> None:
        """Remember a value, or that it has grown."""
        _, before = self._values.pop(key, (None, 0))
        self._weight -= before
        self._values[key] = value, weight
        self._weight += weight
        while self._weight > self._limit and len(self._values) > 1:
            _, (_, old) = self._values.popitem(last=False)
            self._weight -= old

    def pop(self, key: Key) -> Value | None:
        """Forget a value, and return it."""
        value, weight = self._values.pop(key, (None, 0))
        self._weight -= weight
        return value

    def __len__(self) -> int:
        return len(self._values)
