"""Gallery: the tables of a lake as one row an image, in a folder of files beside the user's other caches.

The folder holds nothing that the tables do not: it is made anew when one of them has another version, and may be
deleted. What people decide is not in it; see jobs.serve.decisions."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from jobs.engines import delta_log
from jobs.errors import LakeError
from jobs.serve.columns import META, Columns, Say
from jobs.serve.facets.arrivals import arrivals
from jobs.tables import OUTLIER_SCORES, SCORES
from udfs.stores import uris
from udfs.stores.cache import user_cache
from udfs.stores.folders import make_whole

# Tables that the gallery is made of. Without the first there is none; the others may be missing.
SOURCES = ("images", "features", "scores", "duplicates", "issues", "labels", "label_sets", "topics", "concepts",
           "failures", "map")  # fmt: skip
LAYOUT = 5  # of the folder: another number makes all anew
ALL_SCORES = (*SCORES, *OUTLIER_SCORES, "label_score")


class NoGalleryError(LakeError):
    """The lake has no images yet; one line."""


def versions(lake: str) -> dict[str, int | None]:
    """The versions of the tables that a gallery is made of. lake: a canonical URI."""
    return {name: delta_log.version(uris.join(lake, name)) for name in SOURCES}


def folder_of(lake: str, at: dict[str, int | None]) -> Path:
    """Where the gallery of these versions lies, whether or not it is there."""
    own = hashlib.sha256(lake.encode()).hexdigest()[:16]
    state = hashlib.sha256(json.dumps([LAYOUT, sorted(at.items())]).encode()).hexdigest()[:16]
    return user_cache() / "serve" / own / state


def opened(lake: str, at: dict[str, int | None], say: Say = lambda share: None) -> Columns:
    """The gallery of these versions, made unless it is there. say: gets the share that is done, 0..1. Those of older
    versions go. Raises NoGalleryError."""
    folder = folder_of(lake, at)
    if not (folder / META).exists():
        if at["images"] is None:
            raise NoGalleryError(f"{lake} holds no images yet: run `imagesieve run` first")
        from jobs.serve.gallery_making import Making  # heavy, and mostly not needed

        make_whole(folder, lambda draft: Making(lake, at, draft, say).all())
        for old in folder.parent.iterdir():
            if old != folder and not old.name.startswith(".draft-"):
                shutil.rmtree(old, ignore_errors=True)  # who has it mapped keeps it
    columns = Columns(folder)
    columns.add("run", arrivals(lake, columns)[0])
    return columns
