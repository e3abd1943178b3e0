"""A lake from Python: its tables as Arrow, pandas or DuckDB. Reading needs neither Spark nor the embedded engine."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow.dataset as ds

    from imagesieve.showing import Shown
    from jobs.albums.grouping import GroupedAlbum, OwnersAlbums
    from jobs.rating.albums import Album


class CleanSet(NamedTuple):
    """Files that `clean` wrote: images to keep, images to leave out and why, and corrected labels."""

    kept: str
    removed: str
    relabelled: str


@dataclass(frozen=True)
class Report:
    """The pages of a lake. uri: of the first one."""

    uri: str

    def _repr_html_(self) -> str:
        """The first page inside a notebook: links in it go to a page of their own."""
        path = Path(self.uri)
        if self.uri.startswith("s3://") or not path.is_file():
            return f'<a href="{html.escape(self.uri)}">{html.escape(self.uri)}</a>'
        base = f'<head><base href="{html.escape(path.resolve().as_uri())}" target="_blank">'
        page = path.read_text(encoding="utf-8").replace("<head>", base, 1)
        return f'<iframe srcdoc="{html.escape(page)}" width="100%" height="640" style="border:0"></iframe>'


class Lake:
    """The tables of one lake as they are now: each call reads the newest version."""

    def __init__(self, uri: str, report: str | None = None) -> None:
        """uri, report: canonical; see open()."""
        self.uri = uri
        self._report = report
        self._album: Album | None = None
        self._albums: OwnersAlbums | None = None

    def __repr__(self) -> str:
        return f"Lake({self.uri!r})"

    @property
    def tables(self) -> list[str]:
        """The names of the tables that are there, in the order in which a run writes them."""
        from jobs.engines import delta_log
        from jobs.tables import TABLES
        from udfs.stores import uris

        return [name for name in TABLES if delta_log.version(uris.join(self.uri, name)) is not None]

    def dataset(self, table: str) -> ds.Dataset:
        """A table as an Arrow dataset, of which only what is asked for is read. Raises LakeError: no such table."""
        from jobs.engines import datasets
        from jobs.errors import LakeError

        if table not in (there := self.tables):
            raise LakeError(f"{self.uri} has no table {table!r} (there are: {', '.join(there) or 'none'})")
        return datasets.dataset(self.uri, table)

    def arrow(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """A table, or some of its columns, in memory. Raises LakeError."""
        return self.dataset(table).to_table(columns=columns)

    def pandas(self, table: str, columns: list[str] | None = None) -> pd.DataFrame:
        """As arrow(), as a DataFrame of pandas."""
        frame: pd.DataFrame = self.arrow(table, columns).to_pandas()
        return frame

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """What DuckDB answers to a query that names tables of the lake, or views over them (docs/views.md). It needs
        the package duckdb.

        >>> lake.sql("SELECT issue, count(*) FROM issues GROUP BY issue").df()  # doctest: +SKIP
        """
        from jobs.analysis.views import reads, views
        from jobs.engines import datasets

        connection = _connection(self.uri)
        there = self.tables
        for name in there:
            connection.register(name, datasets.dataset(self.uri, name))
        for name, statement in views().items():
            if re.search(rf"\b{name}\b", query) and set(reads(statement)) <= set(there):
                connection.execute(statement.replace("CREATE OR REPLACE VIEW", "CREATE OR REPLACE TEMP VIEW", 1))
        return connection.sql(query)

    def summary(self) -> pd.DataFrame:
        """How many images have each issue, and for how many of them what is suggested.

        One row an issue, those without images left out; columns: images, share of all images (0..1), remove, relabel,
        review."""
        from jobs.tables import ISSUES

        counted: Any = self.arrow("issues", ["issue", "suggestion"]).group_by(["issue", "suggestion"])
        rows = counted.aggregate([([], "count_all")]).to_pandas()
        total = max(1, self.dataset("images").count_rows())
        kinds = rows.pivot_table(index="issue", columns="suggestion", values="count_all", aggfunc="sum", fill_value=0)
        kinds = kinds.reindex(columns=["remove", "relabel", "review"], fill_value=0).astype(int)
        kinds.insert(0, "images", kinds.sum(axis=1))
        kinds.insert(1, "share", kinds["images"] / total)
        kinds.columns.name = None
        found: pd.DataFrame = kinds.reindex([issue for issue in ISSUES if issue in kinds.index])
        return found

    def report(self) -> Report:
        """The report that the last run wrote; in a notebook its first page is shown. Raises LakeError."""
        from jobs.errors import LakeError
        from jobs.pages.place import index_of
        from udfs.stores import objects, uris

        page = index_of(self._report or uris.join(self.uri, "report"))
        if not objects.exists(page):
            raise LakeError(f"{page} does not exist: run `imagesieve report --lake {self.uri}`")
        return Report(page)

    def search(
        self,
        like: str | os.PathLike[str] | int | None = None,
        text: str | None = None,
        where: str = "",
        count: int = 20,
    ) -> pd.DataFrame:
        """The pictures most alike one, or that show what a text names, the best first: image_id, uri, label, score.

        like: an image_id or URI of the lake, or any image file. where: filters as the app has them in its address, such
        as "label=cat&issue=". score: a cosine, or how sure the network is. Raises RunError."""
        import pandas as pd

        from jobs.serve.asking import search

        given = str(like) if isinstance(like, int) else like
        wanted = None if given is None else os.fspath(given)
        hits = search(self.uri, wanted, text, where, count)
        return pd.DataFrame([vars(hit) for hit in hits], columns=["image_id", "uri", "label", "score"])

    def check(self, picture: str | os.PathLike[str] | bytes) -> dict[str, Any]:
        """What the lake would say of a picture that it does not have: its properties, scores and issues, exact and near
        copies, what the network sees in it, and ratings; see docs/door.md. Nothing is written to the lake.

        picture: a path, an s3:// URI, or the bytes of an image file. The first call makes ready what later ones need.
        Raises RunError."""
        from jobs.serve.door import asking

        return asking.check(self.uri, picture if isinstance(picture, bytes) else os.fspath(picture))

    def show(
        self,
        where: str = "",
        height: int = 720,
        origin: str | list[str] | None = None,
        read_only: bool = False,
        **filters: Any,
    ) -> Shown:
        """The app inside a notebook; its decisions are this account's, as those of `imagesieve serve`.

        filters: such as issue="near_duplicate" or label=["cat", "dog"]. where: the same as the app has it in its
        address. height: pixels. origin: of the page that shows the notebook, such as "http://localhost:8889", where it
        is not that of the Jupyter server that runs it. The server listens on 127.0.0.1: the browser must be on this
        machine. It ends with the kernel, or by close(). It needs the extra `[serve]`. Raises RunError.

        >>> lake.show(issue="near_duplicate")  # doctest: +SKIP
        """
        from imagesieve.showing import query_of, show

        origins = [origin] if isinstance(origin, str) else origin or []
        return show(self.uri, query_of(where, filters), height, origins, read_only)

    def rate(
        self, images: Sequence[int | str | os.PathLike[str]], rating: str, rater: str | None = None
    ) -> pd.DataFrame:
        """Scores of some images by a rating of the lake, in their order: image_id, uri, score, percentile, uncertainty.

        images: image_ids or URIs. rater: one of those in the file that the rating was learnt from, by whose own head it
        is then scored; percentile is null then. An album that is asked for again is scored in milliseconds: its vectors
        are kept. Raises RunError."""
        from jobs.rating.albums import Album

        asked = tuple(image if isinstance(image, int) else os.fspath(image) for image in images)
        if self._album is None or self._album.asked != asked or not self._album.is_current():
            self._album = Album(self.uri, asked)
        return self._album.rate(rating, rater)

    def group(
        self, owner: str, level: str | float = "medium", by: str | None = None, burst_s: float = 3.0
    ) -> GroupedAlbum:
        """One owner's pictures: what is alike, the best of each group, and bursts.

        owner: as in the table images. level: "low", "medium", "high", or a cosine; see imagesieve.group, whose answers
        these are. by: a rating of the lake, by which the best is the best; by default the quality score. burst_s: a
        longer gap between two pictures ends a burst. An owner that is asked for again is answered from memory, until
        the albums change. `.pandas()` makes a table of the answer. Raises RunError."""
        from jobs.albums.grouping import OwnersAlbums

        if self._albums is None or not self._albums.is_current():
            self._albums = OwnersAlbums(self.uri)
        return self._albums.grouped(owner, level, by, burst_s)

    def clean(self, out: str | os.PathLike[str], batch_manifest: str | None = None, **settings: Any) -> CleanSet:
        """Writes what to keep, what to leave out and why, and corrected labels. It deletes nothing.

        out: .parquet, .csv or .jsonl. settings: of the section `clean`, such as remove=["exact_duplicate"].
        Raises RunError."""
        from imagesieve.calling import command
        from jobs.cleaning.files import beside

        path = os.fspath(out)
        values = {f"clean.{key}": value for key, value in settings.items()}
        asked: dict[str, Any] = {**_CLEAN, "lake": self.uri, "out": path, "batch_manifest": batch_manifest}
        command("clean", values, **asked)
        return CleanSet(path, beside(path, "removed"), beside(path, "relabelled"))

    def training_set(
        self,
        to: str | os.PathLike[str],
        write: str = "webdataset",
        seed: int = 0,
        shard_images: int | None = None,
        splits: str | None = None,
        **settings: Any,
    ) -> str:
        """Writes what `clean` keeps as shards for training, shuffled, with labels and splits: see docs/cleaning.md.

        to: a folder or an s3:// prefix; where a run was ended in the middle, the same call goes on. write: webdataset
        or parquet. shard_images: of a shard, about. splits: such as "train=0.9,val=0.1", into which images without one
        are dealt. settings: of the section `clean`. Returns the path of its manifest, training-set.json. Raises
        RunError."""
        from imagesieve.calling import command
        from jobs.cleaning.training_set import MANIFEST
        from udfs.stores import uris

        place = os.fspath(to)
        values = {f"clean.{key}": value for key, value in settings.items()}
        asked: dict[str, Any] = {"to": place, "write": write, "seed": seed, "splits": splits, "lake": self.uri}
        command("clean", values, **{**_CLEAN, **asked, "shard_images": shard_images})
        return uris.join(place, MANIFEST)


# The arguments of `imagesieve clean`, where they are not given.
_CLEAN: dict[str, Any] = {
    **dict.fromkeys(("out", "batch_manifest", "apply", "to", "write", "seed", "shard_images", "splits", "replay")),
    "dry_run": False,
}


@lru_cache(64)
def _connection(uri: str) -> duckdb.DuckDBPyConnection:
    """Kept for a lake of its own: an answer is read later, when the Lake may be gone, and needs it then."""
    import duckdb

    return duckdb.connect()


def open(lake: str | os.PathLike[str]) -> Lake:
    """A lake that is there. lake: a folder or an s3:// prefix. Raises LakeError where it is none, StoreError where it
    cannot be read."""
    from jobs.errors import LakeError
    from jobs.lakes import existing
    from udfs.stores import uris

    try:
        uri = uris.canonical(os.fspath(lake), base=str(Path.cwd())).rstrip("/")
    except ValueError as error:
        raise LakeError(str(error)) from error
    return Lake(existing(uri))
