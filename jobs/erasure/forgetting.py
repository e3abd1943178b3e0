"""Forgetting: all that a lake knows of some pictures is deleted, of old versions too, and a receipt says so.

It may be ended anywhere and begun again: `images`, by which the others are found, is rewritten and emptied of old
versions last, and what was begun is noted under LAKE/_forgotten until the receipt is written."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from jobs import __version__
from jobs.engines import delta_log
from jobs.engines.delta_files import names_of
from jobs.erasure import beside, finding, suppression
from jobs.erasure.rewriting import ROWS, Done, batches, opened, purge, rewrite
from jobs.erasure.rules import RULES, Erased
from jobs.errors import InputError, LakeError
from jobs.lakes import existing
from jobs.lease import Lease
from jobs.tables import TABLES
from udfs.stores import objects, uris

RECEIPTS = "receipts"
PENDING = "pending"
NOT_COVERED = (
    "the pictures themselves, and the manifests that list them",
    "files that clean, review or a person has written outside the lake, and copies of the lake",
    "noncurrent versions of objects, where the bucket of the lake keeps them",
    "caches of the app, the door and the watch on other machines, until they open the lake again; browsers",
    "variants of pictures that the app keeps in a place of its own, until their time is over",
    "events of the pictures that wait in a queue",
    "what a rating has learnt: its numbers are of many pictures, and none can be read from them",
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be forgotten: all of these owners' pictures, pictures by URI, pictures by id."""

    owners: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    ids: frozenset[int] = frozenset()

    def told(self) -> str:
        """The same text for the same question."""
        return json.dumps([sorted(self.owners), sorted(self.uris), sorted(self.ids)])


def forget(lake: str, asked: Asked, lease: Lease, may_return: bool = False, say: Say = lambda _: None) -> str:
    """Deletes what a lake knows of some pictures. lake: a canonical URI. may_return: pictures that an input still lists
    come back with the next run. Returns where the receipt lies.

    Raises InputError where no such picture is known, LakeError, LeaseLost, StoreError."""
    existing(lake)
    _refuse_other_tables(lake)
    lease.check()
    beside.settle(lake)
    salt = suppression.salt_of(lake)
    mark = suppression.mark_of(salt, asked.told())
    pending = uris.join(lake, suppression.FOLDER, PENDING, f"{mark[:32]}.json")
    erased = finding.find(lake, asked.owners, asked.uris, asked.ids)
    before = _begun(pending)
    if not len(erased.ids) and before is None:
        raise InputError(f"{lake} knows no such picture: nothing was deleted")
    marks = {suppression.mark_of(salt, uri) for uri in erased.uris}
    told = before or {
        "started_at": _now(),
        "images": len(marks),
        "digest": _digest_of(marks),
        "rows": {},
        "resumed": False,
    }
    told["resumed"] = before is not None
    lease.check()
    objects.put(pending, json.dumps(told).encode())
    if not may_return:
        suppression.remember(lake, marks)
    say(f"{len(erased.ids):,} pictures are deleted")
    _rewrite_all(lake, erased, lease, told, pending, say)
    told["reports"] = sum(beside.delete_report(report) for report in beside.reports(lake))
    told["ratings"] = beside.forget_judged(lake, erased)
    told["cache"] = beside.delete_cache(lake) or told.get("cache", False)
    lease.check()
    beside.delete_derived(lake)
    told["versions"], told["files"] = _purge_all(lake, lease, say)
    receipt = _receipt(lake, told, mark, asked, may_return)
    place = uris.join(
        lake,
        suppression.FOLDER,
        RECEIPTS,
        f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}.json",
    )
    objects.put(place, (json.dumps(receipt, indent=1) + "\n").encode())
    objects.delete(pending)
    return place


def _refuse_other_tables(lake: str) -> None:
    """A table that this version does not know may hold anything."""
    folders = {name.partition("/")[0] for name, _ in objects.list_below(lake) if f"/{delta_log.LOG}/" in f"/{name}"}
    unknown = sorted(folders - set(TABLES))
    if unknown:
        raise LakeError(f"{lake} holds the table {unknown[0]}, which imagesieve does not know: delete or move it first")


def _begun(pending: str) -> dict[str, Any] | None:
    """What an earlier attempt at the same has done."""
    try:
        found = json.loads(objects.read_small(pending))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LakeError(f"{pending}: cannot be read ({error}): delete it, and run the same command again") from error
    return dict(found)


def _rewrite_all(lake: str, erased: Erased, lease: Lease, told: dict[str, Any], pending: str, say: Say) -> None:
    """Every table without what is erased, `images` last."""
    if not len(erased.ids):
        return
    erased = finding.with_others(lake, erased)
    if _is_a_centre(lake, erased):
        # The centre of a cell of one picture is its vector: without centres the next run draws others.
        for name in ("centres", "cells"):
            lease.check()
            objects.delete_below(uris.join(lake, name))
    for name, rule in RULES.items():

        def note(done: Done, name: str = name) -> None:
            rows = told["rows"].setdefault(name, {"removed": 0, "changed": 0})
            # An earlier attempt that ended here has noted the same, whether or not it was committed.
            rows["removed"] = max(rows["removed"], done.removed)
            rows["changed"] = max(rows["changed"], done.changed)
            objects.put(pending, json.dumps(told).encode())
            lease.check()

        done = rewrite(uris.join(lake, name), rule, erased, note)
        if done.removed or done.changed:
            say(f"{name}: {done.removed:,} rows removed, {done.changed:,} changed")


def _is_a_centre(lake: str, erased: Erased) -> bool:
    """Whether a centre of the neighbour search is the vector of an erased image."""
    centres = uris.join(lake, "centres")
    if delta_log.version(centres) is None:
        return False
    known = set()
    for name in names_of(centres):
        with opened(uris.join(centres, *unquote(name).split("/"))) as file:
            known |= {_digest(vector) for vector in file.read(columns=["vector"])["vector"].to_pylist()}
    embeddings = uris.join(lake, "embeddings")
    for name in names_of(embeddings) if delta_log.version(embeddings) is not None else ():
        with opened(uris.join(embeddings, *unquote(name).split("/"))) as file:
            if not any(erased.has(rows["image_id"]).any() for rows in batches(file, ROWS, ("image_id",))):
                continue
            for batch in file.iter_batches(4096, columns=["image_id", "vector"], use_threads=False):
                ids = erased.has(batch.column("image_id"))
                mine = batch.column("vector").filter(ids)
                if any(_digest(vector) in known for vector in mine.to_pylist()):
                    return True
    return False


def _digest(vector: list[float]) -> bytes:
    import numpy as np

    return hashlib.sha256(np.asarray(vector, np.float32).tobytes()).digest()


def _purge_all(lake: str, lease: Lease, say: Say) -> tuple[dict[str, int], int]:
    """Deletes the old versions of all tables, those of `images` last. Returns the versions that are left, and how many
    files went."""
    versions, files = {}, 0
    for name in RULES:
        version, gone = purge(uris.join(lake, name), lease.check, others_write=name == "reviews")
        if version >= 0:
            versions[name] = version
        files += gone
    say(f"{files:,} files of old versions deleted")
    return versions, files


def _receipt(lake: str, told: dict[str, Any], mark: str, asked: Asked, may_return: bool) -> dict[str, Any]:
    """What was done, without a word of what was erased. asked: the salted hash of the question. images_digest: of the
    salted hashes of the URIs, in order."""
    receipt = {
        "receipt": 1,
        "imagesieve": __version__,
        "lake": lake,
        "asked": {"owners": len(asked.owners), "uris": len(asked.uris), "ids": len(asked.ids), "mark": mark},
        "images": told["images"],
        "images_digest": told["digest"],
        "rows": told["rows"],
        "versions": told["versions"],
        "files_deleted": told["files"],
        "report_files_deleted": told["reports"],
        "ratings_changed": told["ratings"],
        "cache_deleted": told["cache"],
        "stays_forgotten": not may_return,
        "resumed": told["resumed"],
        "started_at": told["started_at"],
        "ended_at": _now(),
        "not_covered": list(NOT_COVERED),
    }
    text = json.dumps(receipt, sort_keys=True, separators=(",", ":"))
    return {**receipt, "digest": hashlib.sha256(text.encode()).hexdigest()}


def _digest_of(marks: Collection[str]) -> str:
    return hashlib.sha256("".join(sorted(marks)).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
