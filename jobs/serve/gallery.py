"""Gallery: the tables of a lake as one row an image, in a folder of files beside the user's other caches.

The folder holds nothing that the tables do not: it is made anew when one of them has another version, and may be
deleted. What people decide is not in it; see jobs.serve.decisions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from jobs.engines import delta_log
from jobs.serve.columns import META, Columns
from jobs.tables import OUTLIER_SCORES, SCORES
from udfs.stores import uris

# Tables that the gallery is made of. Without the first there is none; the others may be missing.
SOURCES = ("images", "features", "scores", "duplicates", "issues", "labels", "topics", "concepts", "failures")
LAYOUT = 2  # of the folder: another number makes all anew
ALL_SCORES = (*SCORES, *OUTLIER_SCORES, "label_score")

Say = Callable[[float], None]


class NoGalleryError(Exception):
    """The lake has no images yet; one line."""


def cache_folder() -> Path:
    """Where galleries lie: as all caches, below IMAGESIEVE_CACHE, else the user's cache folder."""
    given = os.environ.get("IMAGESIEVE_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagesieve"
    return base / "serve"


def versions(lake: str) -> dict[str, int | None]:
    """The versions of the tables that a gallery is made of. lake: a canonical URI."""
    return {name: delta_log.version(uris.join(lake, name)) for name in SOURCES}


def folder_of(lake: str, at: dict[str, int | None]) -> Path:
    """Where the gallery of these versions lies, whether or not it is there."""
    own = hashlib.sha256(lake.encode()).hexdigest()[:16]
    state = hashlib.sha256(json.dumps([LAYOUT, sorted(at.items())]).encode()).hexdigest()[:16]
    return cache_folder() / own / state


def opened(lake: str, at: dict[str, int | None], say: Say = lambda share: None) -> Columns:
    """The gallery of these versions, made unless it is there. say: gets the share that is done, 0..1. Those of older
    versions go. Raises NoGalleryError."""
    folder = folder_of(lake, at)
    if not (folder / META).exists():
        if at["images"] is None:
            raise NoGalleryError(f"{lake} holds no images yet: run `imagesieve run` first")
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        from jobs.serve.gallery_making import Making  # heavy, and mostly not needed

        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
        try:
            Making(lake, at, draft, say).all()
            if not folder.exists():  # another may have made it at the same time
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in folder.parent.iterdir():
            if old != folder and not old.name.startswith(".draft-"):
                shutil.rmtree(old, ignore_errors=True)  # who has it mapped keeps it
    return Columns(folder)
