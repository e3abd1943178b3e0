"""Folders of files that are made once: whole, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def make_whole(folder: Path, make: Callable[[Path], bool]) -> bool:
    """Makes a folder by way of a draft beside it, unless it is there. make: fills the draft, and returns whether there
    is anything; what another has made at the same time stays. Returns what make does."""
    if folder.exists():
        return True
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        is_there = make(draft)
        if is_there and not folder.exists():
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return is_there
