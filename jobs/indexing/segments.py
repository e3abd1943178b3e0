"""Segments: pictures of an index in files that are mapped, cell by cell. One is written once, and never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.indexing.space import CLASSES, Coded, Space

COLUMNS = ("ids", "keys", "lengths", "bytes")
OF_CLASSES = ("classes", "sure")
STARTS = "starts"  # where each cell begins, and where the last one ends
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Segment:
    """A segment that is open. starts: (cells + 1,); the others as in Coded, mapped, in the order of cells."""

    ids: NDArray[np.int64]
    keys: NDArray[np.int64]
    lengths: NDArray[np.float32]
    bytes: NDArray[np.int8]
    starts: NDArray[np.int64]
    classes: NDArray[np.uint16] | None = None
    sure: NDArray[np.float16] | None = None

    @property
    def images(self) -> int:
        return len(self.ids)

    def coded(self, alive: NDArray[np.bool_]) -> Iterator[Coded]:
        """The pictures that are alive, in parts."""
        cells = np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))
        for first in range(0, self.images, ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            kept = alive[part]
            yield Coded(
                self.ids[part][kept], self.keys[part][kept], self.bytes[part][kept], self.lengths[part][kept],
                cells[part][kept],
                None if self.classes is None else self.classes[part][kept],
                None if self.sure is None else self.sure[part][kept],
            )  # fmt: skip


def files_of(has_classes: bool) -> tuple[str, ...]:
    """The names of the files of a segment; each ends in .npy."""
    return (*COLUMNS, *(OF_CLASSES if has_classes else ()), STARTS)


def paths(folder: Path, has_classes: bool) -> dict[str, Path]:
    """Where write() has put each file."""
    return {name: folder / f"{name}.npy" for name in files_of(has_classes)}


def write(
    folder: Path, space: Space, has_classes: bool, parts: Iterable[Coded], most: int,
    say: Callable[[float], None] = lambda share: None,
) -> int:  # fmt: skip
    """Writes the files of a segment into a folder that is there. most: pictures that come. Returns how many came."""
    names = files_of(has_classes)[:-1]
    drafts = {
        name: np.lib.format.open_memmap(folder / f".{name}.npy", "w+", kind, shape)
        for name, (kind, shape) in _kinds(space, most).items()
        if name in names and most
    }
    cells, count = np.zeros(most, np.int32), 0
    for part in parts:
        here = slice(count, count + len(part.ids))
        for name, draft in drafts.items():
            draft[here] = getattr(part, name)
        cells[here] = part.cells
        count += len(part.ids)
        say(count / max(1, most))
    order = np.argsort(cells[:count], kind="stable")
    for name in names:
        kind, shape = _kinds(space, count)[name]
        if not count:
            np.save(folder / f"{name}.npy", np.empty(shape, kind), allow_pickle=False)
            continue
        kept = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)
        for first in range(0, count, ROWS_AT_ONCE):
            kept[first : first + ROWS_AT_ONCE] = drafts[name][order[first : first + ROWS_AT_ONCE]]
        kept.flush()
        drafts.pop(name)
        (folder / f".{name}.npy").unlink()
    starts = np.concatenate([[0], np.cumsum(np.bincount(cells[:count], minlength=len(space.centres)))])
    np.save(folder / f"{STARTS}.npy", starts.astype(np.int64), allow_pickle=False)
    for name in drafts:
        (folder / f".{name}.npy").unlink(missing_ok=True)
    return count


def opened(files: dict[str, Path], space: Space) -> Segment:
    """files: by name. Raises OSError, ValueError where they are none of a segment of this space."""
    found = {name: mapped(path) for name, path in files.items()}
    images = len(found["ids"])
    wanted = {name: kind for name, kind in _kinds(space, images).items() if name in found}
    wanted[STARTS] = (np.int64, (len(space.centres) + 1,))
    for name, (kind, shape) in wanted.items():
        if found[name].dtype != kind or found[name].shape != shape:
            raise ValueError(f"{files[name]}: {found[name].dtype}{found[name].shape}, not {np.dtype(kind)}{shape}")
    starts = np.array(found[STARTS])
    if starts[0] != 0 or starts[-1] != images or (np.diff(starts) < 0).any():
        raise ValueError(f"{files[STARTS]}: no places of cells")
    return Segment(**{**found, STARTS: starts})


def mapped(file: Path) -> NDArray[Any]:
    """An array of a file, mapped. Raises OSError, ValueError."""
    try:
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))  # a plain view: slices cost less
    except ValueError:
        found = np.load(file, allow_pickle=False)  # an array of no rows cannot be mapped
        if not isinstance(found, np.ndarray) or found.size:
            raise
        return found
    except EOFError as error:
        raise ValueError(f"{file}: empty") from error


def _kinds(space: Space, images: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    return {
        "ids": (np.int64, (images,)),
        "keys": (np.int64, (images,)),
        "lengths": (np.float32, (images,)),
        "bytes": (np.int8, (images, space.directions)),
        "classes": (np.uint16, (images, CLASSES)),
        "sure": (np.float16, (images, CLASSES)),
    }
