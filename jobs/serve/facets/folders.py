"""Folders: the pictures under a folder, and the folders of a level with how many pictures of a view lie in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.serve.columns import Columns, Mask, Rows

SHOWN = 50  # folders of a level that are told at once
MOST = 5000  # of a level that are counted


@dataclass(frozen=True)
class Level:
    """A folder and those in it. folder: ends with a slash, or is "". images: of the view, in it or below. here: of
    these, in it itself. folders: (name, images), the fullest first. more: how many are not told. uncounted: it holds
    more than MOST, these are of the first of them, and here is 0."""

    folder: str
    images: int
    here: int
    folders: list[tuple[str, int]]
    more: int
    uncounted: bool


class Folders:
    """The folders of a gallery: stretches of the order of its URIs."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._order, self._place = columns.numbers("uri_order"), columns.numbers("uri_place")
        self._starts = columns.numbers("folder_starts")
        self.root = self._root()

    def holding(self, folder: str) -> Mask:
        """(images,): whether a row lies in a folder or below it."""
        first, end = self._stretch(_bytes_of(folder))
        return np.asarray((self._place >= first) & (self._place < end), np.bool_)

    def counted(self, holds: Mask, folders: Sequence[str]) -> list[int]:
        """How many rows that a mask holds lie under each of some folders."""
        until = np.concatenate([[0], np.cumsum(holds[self._order], dtype=np.int64)])
        stretches = [self._stretch(_bytes_of(folder)) for folder in folders]
        return [int(until[end] - until[first]) for first, end in stretches]

    def level(self, folder: str, rows: Rows | None, part: str = "") -> Level:
        """What lies in a folder; in the one that holds all pictures where it is "". rows: of a view, None for all.
        part: a text that the names hold, in any case of letters."""
        own = folder or self.root
        prefix = _bytes_of(own)
        first, end = self._stretch(prefix)
        names, bounds, uncounted = self._inside(prefix, first, end)
        edges = np.array(bounds, np.int64).reshape(-1, 2) - first
        if rows is None:
            images, counts = end - first, edges[:, 1] - edges[:, 0]
        else:
            places = self._place[rows]
            held = np.zeros(end - first, np.bool_)
            held[places[(places >= first) & (places < end)] - first] = True
            until = np.concatenate([[0], np.cumsum(held, dtype=np.int32)])
            images, counts = int(until[-1]), until[edges[:, 1]] - until[edges[:, 0]]
        found = [
            (name.decode("utf-8", "surrogateescape"), n) for name, n in zip(names, counts.tolist(), strict=True) if n
        ]
        here = 0 if uncounted else images - sum(n for _, n in found)
        chosen = sorted((f for f in found if part.lower() in f[0].lower()), key=lambda each: (-each[1], each[0]))
        return Level(own, images, here, chosen[:SHOWN], max(0, len(chosen) - SHOWN), uncounted)

    def _inside(self, prefix: bytes, first: int, end: int) -> tuple[list[bytes], list[tuple[int, int]], bool]:
        """The folders in one, each with its stretch, and whether there are more."""
        names: list[bytes] = []
        bounds: list[tuple[int, int]] = []
        at = first
        while at < end:
            if len(names) == MOST:
                return names, bounds, True
            rest = self._uri(at)[len(prefix) :]
            cut = rest.find(b"/")
            later = int(np.searchsorted(self._starts, at, side="right"))
            if cut < 0:  # pictures of this folder itself: on to the next that are not
                at = self._start(later, end)
                continue
            name = rest[:cut]
            after = self._past(prefix + name + b"/", later, end)
            names.append(name)
            bounds.append((at, after))
            at = after
        return names, bounds, False

    def _start(self, number: int, end: int) -> int:
        return min(int(self._starts[number]), end) if number < len(self._starts) else end

    def _past(self, prefix: bytes, later: int, end: int) -> int:
        """The first place after a prefix, which is a start from a number on; most folders have few."""
        step = 1
        while (at := self._start(later + step - 1, end)) < end and self._uri(at).startswith(prefix):
            later += step
            step *= 2
        return self._bisected(prefix, self._start(later - 1, end), at, past=True) if step > 1 else at

    def _stretch(self, prefix: bytes) -> tuple[int, int]:
        images = len(self._order)
        first = self._bisected(prefix, 0, images, past=False)
        return first, self._bisected(prefix, first, images, past=True)

    def _bisected(self, prefix: bytes, low: int, high: int, past: bool) -> int:
        """The first place from which on URIs do not come before a prefix, or, past it, do not begin with it either."""
        while low < high:
            middle = (low + high) // 2
            own = self._uri(middle)[: len(prefix)]
            if own < prefix or (past and own == prefix):
                low = middle + 1
            else:
                high = middle
        return low

    def _uri(self, place: int) -> bytes:
        return self._columns.uri_bytes(int(self._order[place]))

    def _root(self) -> str:
        """The folder that all pictures lie in, "" where there is none."""
        if not len(self._order):
            return ""
        low, high = self._uri(0), self._uri(len(self._order) - 1)
        same = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
        return low[: low.rfind(b"/", 0, same) + 1].decode("utf-8", "surrogateescape")


def _bytes_of(folder: str) -> bytes:
    return folder.encode("utf-8", "surrogateescape")
