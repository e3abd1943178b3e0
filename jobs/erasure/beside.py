"""Beside: what lies around the tables of a lake and may name a picture: the report, heads of ratings, staged files, the
index, what the door keeps, and the caches of this machine."""

from __future__ import annotations

import json
import re
import shutil

from jobs import lakes
from jobs.engines import journal
from jobs.erasure.rewriting import rows_of
from jobs.erasure.rules import Erased
from jobs.indexing import store as index
from jobs.live.known import Known
from jobs.pages.place import index_of
from jobs.rating import store
from jobs.serve import gallery
from udfs.stores import objects, uris
from udfs.stores.cache import user_cache

STAGING, DOOR = "_staging", "door"  # of jobs.lakes, and of jobs.serve.door.prepared

# What the report stage writes: its pages, and pictures that are named by their image.
_PAGE = re.compile(r"[A-Za-z0-9_.@-]+\.html|thumbs/[0-9]{1,19}[-0-9a-z_]*\.(?:webp|jpg|png)", re.ASCII)


def reports(lake: str) -> set[str]:
    """The folders of the reports of a lake: in it, and where runs have written others."""
    told = rows_of(uris.join(lake, "runs"), ("job", "config"), lambda rows: rows["job"].to_numpy(False) == "report")
    found = {uris.join(lake, "report")}
    for row in told:
        settings = json.loads(row["config"]).get("settings", {})
        if isinstance(settings.get("report"), str):
            found.add(settings["report"])
    return found


def delete_report(report: str) -> int:
    """Deletes the pages and pictures of a report; the next run writes it anew. Returns how many files went."""
    if not objects.exists(index_of(report)) and not objects.has_any(uris.join(report, "thumbs")):
        return 0
    names = [name for name, _ in objects.list_below(report) if _PAGE.fullmatch(name)]
    for name in names:
        objects.delete(uris.join(report, *name.split("/")))
    return len(names)


def forget_judged(lake: str, erased: Erased) -> int:
    """Takes images out of the lists of what a rating was learnt from. Returns of how many ratings."""
    changed = 0
    gone = set(erased.ids.tolist())
    for key in store.keys(lake):
        known = store.judged(lake, key)
        if not gone.isdisjoint(known.tolist()):
            store.keep_judged(lake, key, known[[image not in gone for image in known.tolist()]])
            changed += 1
    return changed


def settle(lake: str) -> None:
    """Makes what a killed watch has left in the journal, or it would bring back what is deleted; what was not written
    whole goes."""
    lakes.settle(lake)
    journal.forget(lake)


def delete_derived(lake: str) -> None:
    """Deletes what ended runs have left staged, and what is made of the tables for the app and the door: the next run,
    or `imagesieve check --prepare`, makes it again."""
    for name in (STAGING, index.FOLDER, DOOR):
        objects.delete_below(uris.join(lake, name))


def delete_cache(lake: str) -> bool:
    """Deletes what the app, the door and the watch of this account and machine keep of a lake. Returns whether there
    was any."""
    cache = user_cache()
    folders = (gallery.folder_of(lake, {}).parent, Known.place(cache, lake), index.cache_of(lake))
    there = [folder for folder in folders if folder.is_dir()]
    for folder in there:
        shutil.rmtree(folder)
    return bool(there)
