"""Runs: how the files of `albums` lie in runs, and which runs are written again with what is new."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.engines import delta_log
from udfs.albums import files

FACTOR = 4  # times that what an earlier run holds must be as much as all that is later, to be left as it is


def joined(held: Mapping[int, int], new: int, most: int | None = None) -> set[int]:
    """The runs that are written again with what is new: all from the first one on that does not hold FACTOR times as
    much as all that comes after it. held: by run, in any unit. new: in the same unit. most: that is written again at
    most; earlier runs are left as they are."""
    taken, last, size = list[int](), 0, new
    for run in sorted(held, reverse=True):
        if most is not None and size - new + held[run] > most:
            break
        taken.append(run)
        if held[run] < FACTOR * size:
            last = len(taken)
        size += held[run]
    return set(taken[:last])


def runs_of(table: str) -> dict[int, dict[str, int]]:
    """By run its files, as the log spells them, with their bytes. table: the canonical URI of `albums`."""
    added = delta_log.delta_table(table).get_add_actions(flatten=True)
    found: dict[int, dict[str, int]] = {}
    for name, size in zip(added.column("path").to_pylist(), added.column("size_bytes").to_pylist(), strict=True):
        found.setdefault(files.run_of(name), {})[name] = size
    return found
