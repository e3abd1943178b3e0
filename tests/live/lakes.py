"""A lake as a watch sees one: its marker, the row of `runs` that says what it was made of, and `images`; and something
that brings changes into it, which keeps what it was told in a file."""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from jobs import __version__, lakes
from jobs.live.changes import Change, Outcome

EXTENSIONS = ["jpg", "png"]
AT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
IMAGES = pa.schema([("uri", pa.string()), ("etag", pa.string()), ("shard", pa.string())])


def make(folder: Path, inputs: Sequence[str], images: Mapping[str, str] | None = None) -> str:
    """images: etags by canonical URI. Returns the lake's URI."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = {"format": lakes.LAKE_FORMAT, "version": __version__, "next_image_id": 0, "next_cluster_id": 0}
    (folder / lakes.MARKER).write_text(json.dumps(marker), encoding="utf-8")
    rows = []
    # An older run with other inputs, and one that failed: neither counts.
    for days, status, given in ((1, "done", ["s3://old/"]), (2, "done", list(inputs)), (3, "failed", ["s3://failed/"])):
        settings = {"inputs": given, "layout": None, "extensions": EXTENSIONS, "shards": ["tar"]}
        config = json.dumps({"settings": settings, "all": {}})
        rows.append({"job": "catalog", "status": status, "started_at": AT + datetime.timedelta(days), "config": config})
    write_deltalake(str(folder / "runs"), pa.Table.from_pylist(rows))
    known(folder, images or {})
    return str(folder)


def known(folder: Path, images: Mapping[str, str]) -> None:
    """Makes `images` hold just these, and one that lies in a shard."""
    rows = [{"uri": uri, "etag": etag, "shard": None} for uri, etag in images.items()]
    rows.append({"uri": f"{folder.parent}/photos/shard.tar/inside.jpg", "etag": "x", "shard": "shard.tar"})
    write_deltalake(str(folder / "images"), pa.Table.from_pylist(rows, IMAGES), mode="overwrite")


class Book:
    """A Bringer that writes etags by URI, and every addition and removal, into a file of JSON: its commit is a rename.

    before, after: called with the changes before and after each commit; they may raise, or end the process."""

    def __init__(
        self,
        file: Path,
        before: Callable[[Sequence[Change]], None] = lambda _: None,
        after: Callable[[Sequence[Change]], None] = lambda _: None,
    ) -> None:
        self._file, self._before, self._after = file, before, after
        self.batches: list[list[Change]] = []
        self.closed = 0

    @property
    def images(self) -> dict[str, str]:
        found: dict[str, str] = self._read()["images"]
        return found

    @property
    def history(self) -> list[list[str]]:
        """[what, uri] of all that was ever done."""
        found: list[list[str]] = self._read()["history"]
        return found

    def bring(self, changes: Sequence[Change]) -> Outcome:
        assert len({change.uri for change in changes}) == len(changes), "an object twice in one batch"
        self._before(changes)
        book = self._read()
        images, history = book["images"], book["history"]
        counts = dict.fromkeys(("added", "changed", "removed", "same"), 0)
        for change in changes:
            old = images.pop(change.uri, None)
            if change.removed:
                what = "same" if old is None else "removed"
            else:
                assert change.etag is not None
                assert change.size_bytes is not None
                assert change.modified_at is not None
                images[change.uri] = change.etag
                what = "added" if old is None else "same" if old == change.etag else "changed"
            counts[what] += 1
            if what != "same":
                history.append([what, change.uri])
        wrote = counts["same"] < len(changes)
        book["batch"] += wrote
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(book), encoding="utf-8")
        draft.replace(self._file)
        self.batches.append(list(changes))
        self._after(changes)
        return Outcome(book["batch"] if wrote else None, **counts, failed=0, left_out=0)

    def close(self) -> None:
        self.closed += 1

    def _read(self) -> dict:  # type: ignore[type-arg]
        if not self._file.exists():
            return {"images": {}, "history": [], "batch": 0}
        return dict(json.loads(self._file.read_text(encoding="utf-8")))
