"""Prepared: what a door keeps of a lake, put under the lake once, so that a server without a disk of its own, such as a
Lambda function, opens it in seconds. The large files stay there and are read a row at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.errors import LakeError
from jobs.indexing import store
from jobs.serve import gallery
from jobs.serve.door import answering
from jobs.serve.door.answering import Door
from jobs.serve.door.evidence import LARGE, Evidence
from jobs.serve.searching import MAX_PIXELS, Searches, index_folder
from udfs.stores import fetch, objects, s3, uris
from udfs.stores.folders import make_whole
from udfs.stores.s3 import StoreError

PLACE, CURRENT = "door", "current.json"  # under the lake
GALLERY, INDEX, EVIDENCE = "gallery", "index", "evidence"
FORMAT = 1


def put(lake: str, at: dict[str, int | None], door: Door) -> str:
    """Puts what a door has made under its lake, and forgets what the one before the last has put there; the last may be
    in use. at: versions of the gallery's tables. Returns where it lies. Raises StoreError."""
    folders = {GALLERY: gallery.folder_of(lake, at), EVIDENCE: door.evidence.folder}
    if (own := index_folder(lake, at)).exists():  # else the lake has one of its own
        folders[INDEX] = own
    state = door.evidence.folder.name
    told = _current(lake)
    place = uris.join(lake, PLACE, state)
    sizes: dict[str, int] = {}
    for kind, folder in folders.items():
        for file in sorted(folder.iterdir()):
            sizes[f"{kind}/{file.name}"] = file.stat().st_size
            with objects.replacing(uris.join(place, kind, file.name)) as draft:
                shutil.copyfile(file, draft)
    last = told.get("state") if told.get("state") != state else told.get("before")
    names = {kind: folder.name for kind, folder in folders.items()}
    index_at = {"embeddings": door.evidence.at.get("embeddings"), **at}
    current = {"format": FORMAT, "state": state, "before": last, "at": at, "index_at": index_at, "folders": names,
               "files": sizes}  # fmt: skip
    objects.put(uris.join(lake, PLACE, CURRENT), json.dumps(current).encode())
    if told.get("before") not in (None, state, last):
        objects.delete_below(uris.join(lake, PLACE, str(told["before"])))
    return place


def opened(lake: str, most_bytes: int) -> Door:
    """Opens a lake by what was put under it; the small files are copied into the cache, at most so many bytes. Raises
    LakeError."""
    told = _current(lake)
    if told.get("format") != FORMAT:
        raise LakeError(f"{lake}: nothing is prepared for the door: run `imagesieve check --prepare --lake {lake}`")
    at = told["at"]
    small = {name: size for name, size in told["files"].items() if not name.endswith(LARGE)}
    of_lake = store.read(lake) if INDEX not in told["folders"] else None
    indexed = sum(file.bytes for file in of_lake.files()) if of_lake is not None else 0
    if (size := sum(small.values()) + indexed) > most_bytes:
        raise LakeError(f"{lake}: the door needs {size:,} bytes of room here, and has {most_bytes:,}")
    own = gallery.folder_of(lake, at)
    folders = {kind: own.with_name(Path(name).name) for kind, name in told["folders"].items()}
    place = uris.join(lake, PLACE, told["state"])
    for kind, folder in folders.items():
        wanted = {name: size for name, size in small.items() if name.startswith(f"{kind}/")}
        if not folder.exists():
            make_whole(folder, lambda draft, wanted=wanted: _copied(place, wanted, draft))  # type: ignore[misc]
    columns = gallery.opened(lake, at)
    searches = Searches(lake, told["index_at"], columns, fetch.Limits(), MAX_PIXELS)
    elsewhere = uris.join(place, EVIDENCE)
    door = answering.opened(lake, at, columns, searches, Evidence(folders[EVIDENCE], elsewhere))
    searches.wait()
    return door


def _current(lake: str) -> dict[str, Any]:
    try:
        found = json.loads(objects.read_small(uris.join(lake, PLACE, CURRENT)))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LakeError(f"{lake}/{PLACE}/{CURRENT}: cannot be read: remove it") from error
    return found if isinstance(found, dict) else {}


def _copied(place: str, wanted: Mapping[str, int], draft: Path) -> bool:
    for name, size in wanted.items():
        target, source = draft / Path(name).name, uris.join(place, *name.split("/"))
        if uris.is_s3(source):
            bucket, key = uris.split_s3(source)
            try:
                s3.client(timeout_s=60.0).download_file(bucket, key, str(target))
            except Exception as error:
                if not s3.is_aws_error(error):
                    raise
                raise StoreError(f"{source}: cannot be read ({s3.aws_code(error)[0]})") from error
        else:
            shutil.copyfile(uris.local_path(source), target)
        if target.stat().st_size != size:
            raise LakeError(f"{source}: {target.stat().st_size} of {size} bytes: prepare the door again")
    return True
