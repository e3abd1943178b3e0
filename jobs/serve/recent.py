"""Recent: what was computed last is kept, up to a bound, and computed once, whoever asks at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """bound: of the sum of sizes; the last value is kept whatever its size."""

    def __init__(self, bound: int, size: Callable[[T], int]) -> None:
        self._bound, self._size = bound, size
        self._kept: OrderedDict[Any, T] = OrderedDict()
        self._total = 0
        self._making: dict[Any, threading.Lock] = {}
        self._lock = threading.Lock()

    def kept(self, key: Any) -> T | None:
        """The value of a key if it is kept, at once."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """The value of a key, made unless it is kept. What make raises is raised, and nothing is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            try:
                made = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._kept[key] = made
                self._total += self._size(made)
                while len(self._kept) > 1 and self._total > self._bound:
                    self._total -= self._size(self._kept.popitem(last=False)[1])
            return made
