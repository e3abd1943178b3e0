"""Albums of a batch: what is new, changed or gone of each owner, as a run of the table `albums` of its own.

The files are written first, and become part of the table with all else that the batch changes. Small runs that came
before are joined with it, so that an album is read from few of them: see jobs.albums.runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.albums.runs import joined, runs_of
from jobs.albums.stage import PACK_IMAGES, told
from jobs.engines.delta_files import Added
from jobs.engines.frames import to_arrow
from jobs.engines.journal import FileChange
from jobs.errors import LakeError
from jobs.live.draft import Draft
from jobs.live.known import Known, ids_of
from udfs.albums import files, packs
from udfs.albums.packs import MARK_GONE, Pictures
from udfs.errors import ImageError
from udfs.stores import fetch, objects, ranges, uris

TABLE = "albums"
MOST_BYTES = 32 << 20  # of earlier runs that a batch joins: 12,000 pictures of 1,280 numbers
FILE_BYTES = 8 << 10  # of a file beside what it holds, at least: else batches that only remove would never be joined
GIVEN = pa.schema(
    [("owner", pa.string()), ("image_id", pa.int64()), ("mark", pa.int64()), ("taken", pa.int64()),
     ("by_camera", pa.int32()), ("quality", pa.float32()), ("uri", pa.string()), ("vector", pa.list_(pa.float32()))]
)  # fmt: skip
_OF_IMAGES = ("image_id", "owner", "uri", "etag", "modified_at")
Packs = list[tuple[int, Pictures]]


def owners(known: Known, ids: Iterable[int]) -> dict[int, str]:
    """The owner of each of these images that has one and a vector, before the batch."""
    read = ids_of(known.of_images("features", ids, ("image_id",))).tolist()
    rows = known.of_images("images", read, ("image_id", "owner")).to_pylist()
    return {row["image_id"]: row["owner"] for row in rows if row["owner"] is not None}


def bring(draft: Draft, model: str, good: pa.Table, before: Mapping[int, str]) -> None:
    """Drafts the run. model: of the vectors. good: EMBEDDED of what was read well, of which the images and scores are
    drafted. before: of owners(), of what was removed or read anew. Nothing, where the lake has no albums. Raises
    LakeError."""
    if not draft.lake.exists(TABLE):
        return
    there = _there(draft, model, good)
    stays = set(zip(there["owner"].to_pylist(), there["image_id"].to_pylist(), strict=True))
    gone = [
        {"owner": owner, "image_id": one, "mark": MARK_GONE, "by_camera": 0}
        for one, owner in before.items()
        if (owner, one) not in stays
    ]
    rows = pa.concat_tables([there, pa.Table.from_pylist(gone, schema=GIVEN)])
    if rows.num_rows:
        draft.files[TABLE] = laid_out(draft.lake.path(TABLE), model, rows)


def _there(draft: Draft, model: str, good: pa.Table) -> pa.Table:
    """GIVEN of the pictures that have an owner."""
    images = draft.known.of_images("images", ids_of(good), _OF_IMAGES)
    images = images.filter(pc.is_valid(images["owner"]))
    if not images.num_rows:
        return GIVEN.empty_table()
    scores = draft.changes["scores"].rows.select(["image_id", "quality_score"])
    rows = images.join(good.select(["image_id", "taken_at"]), "image_id").join(scores, "image_id")
    found = to_arrow(told(draft.frame(rows), model))
    vectors = good["vector"].take(pc.index_in(found["image_id"], good["image_id"].combine_chunks()))
    return found.append_column("vector", vectors).select(GIVEN.names).cast(GIVEN)


def laid_out(table: str, model: str, rows: pa.Table) -> FileChange:
    """Writes pictures, and what runs hold that are joined with them, as a run. table: the canonical URI of `albums`,
    which is there. model: of the vectors. rows: GIVEN, no picture of an owner twice, some. Returns what makes the run
    part of the table. Raises LakeError."""
    runs = runs_of(table)
    number = max([0, *runs]) + 1
    albums = {owner: [(number, pictures)] for owner, pictures in files.albums_of(rows)}
    size = FILE_BYTES + sum(pictures.vectors.nbytes + pictures.facts.nbytes for [(_, pictures)] in albums.values())
    again = joined({run: sum(held.values()) for run, held in runs.items()}, size, MOST_BYTES)
    old = _held(table, model, {name: size for run in again for name, size in runs[run].items()})
    if old is None:
        again = set()
    for owner, held in (old or {}).items():
        albums.setdefault(owner, []).extend(held)
    objects.delete_below(uris.join(table, files.folder_of(number)))  # of a batch or a run that was killed
    writer = files.Writer(table, number)
    added = []
    for owner in sorted(albums, key=lambda owner: (packs.key_of(owner), owner)):
        pictures = packs.merged(albums[owner], gone=bool(runs.keys() - again))
        added += [_added(file) for file in writer.add_album(owner, 0, model, pictures, PACK_IMAGES)]
    added += [_added(file) for file in writer.close()]
    return FileChange(tuple(added), tuple(name for run in sorted(again) for name in runs[run]))


def _held(table: str, model: str, names: Mapping[str, int]) -> dict[str, Packs] | None:
    """By owner the packs of some files, each with its run; None where one is of another model. names: files, as the log
    spells them, with their bytes."""
    found: dict[str, Packs] = {}
    for name, size in names.items():
        uri = uris.join(table, *name.split("/"))
        try:
            with ranges.open_file(uri, size, fetch.Limits()) as (stream, _):
                rows = pq.read_table(stream, columns=["owner", "run", "model", "facts", "uris", "vectors"])
            for row in rows.to_pylist():
                if row["model"] != model:
                    return None
                pack = packs.unpacked(row["facts"], row["uris"], None, row["vectors"])
                found.setdefault(row["owner"], []).append((row["run"], pack))
        except (ImageError, OSError, pa.ArrowException, ValueError) as error:
            raise LakeError(f"{uri}: cannot be read ({error}): run `imagesieve albums`") from error
    return found


def _added(file: pa.RecordBatch) -> Added:
    row = file.to_pylist()[0]
    return Added(row["path"], row["size_bytes"], row["rows"], {"owner_key": (row["low"], row["high"])})
