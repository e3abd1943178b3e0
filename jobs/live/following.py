"""Following: concepts, ratings and albums of what a batch has read, as the last whole run told those of all others.

None looks at other images: the vectors, the classifier of the network and the heads of the lake are enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import content
from jobs.albums import stage as album_stage
from jobs.errors import InputError, LakeError
from jobs.live import albums
from jobs.live.draft import Draft
from jobs.rating import stage as rating
from jobs.rating import store
from jobs.stage import History
from udfs.content import named
from udfs.networks import concepts
from udfs.networks.models import Model
from udfs.ratings.files import NETWORK
from udfs.ratings.rows import SCORED, Scorer, score
from udfs.stores.cache import user_cache
from udfs.vectors.cell_packs import vectors_of

TABLES = ("concepts", "ratings", albums.TABLE)
_CONCEPTS = pa.schema(
    [("image_id", pa.int64()), ("rank", pa.int32()), ("concept", pa.string()), ("confidence", pa.float64())]
)


def learnt(history: History, model: str) -> dict[str, Any]:
    """What of a lake's runs decides the rows that follow a picture, as JSON: `concepts`, how many an image has;
    `heads`, the digest of each that was scored; `albums`, whether they are laid out. model: of the vectors; of what was
    made of others nothing follows before the next whole run."""
    done = {name: history.last_done(name) for name in (content.JOB, rating.JOB, album_stage.JOB)}
    of = {name: last for name, last in done.items() if last is not None and last["settings"].get("model") == model}
    count, told = 0, of.get(content.JOB)
    if told is not None and (told["counts"]["concepts"] or not told["counts"]["in"]):
        count = told["settings"]["concepts"]
    heads = of[rating.JOB]["settings"]["heads"] if rating.JOB in of else {}
    return {"concepts": count, "heads": heads, "albums": album_stage.JOB in of}


class Following:
    """What follows a picture in one lake. lake: a canonical URI. told: of learnt()."""

    def __init__(self, lake: str, model: Model, told: Mapping[str, Any]) -> None:
        """Raises ModelError, LakeError."""
        classifier = concepts.prepare(model, user_cache()) if told["concepts"] else None
        self._classifier = classifier
        self._count = min(told["concepts"], len(classifier.names)) if classifier is not None else 0
        self._scorers = _scorers(lake, model.key, told["heads"])
        self._model, self._albums = model.key, bool(told["albums"])

    def bring(self, draft: Draft, good: pa.Table, gone: set[int], owners: Mapping[int, str]) -> None:
        """Brings TABLES in line. good: EMBEDDED of what was read well. gone: ids of what was removed or read anew.
        owners: of these before, see albums.owners. Raises LakeError."""
        draft.remake("concepts", self._concepts(good), gone)
        draft.remake("ratings", self._ratings(good), gone)
        if self._albums:
            albums.bring(draft, self._model, good, owners)

    def _concepts(self, good: pa.Table) -> pa.Table:
        if self._classifier is None or not good.num_rows:
            return _CONCEPTS.empty_table()
        norms = good["norm"].to_numpy().astype(np.float32)
        found, confidences = named(self._classifier, vectors_of(good["vector"]), norms, self._count)
        names = pa.array(self._classifier.names, pa.string())
        ranks = np.tile(np.arange(1, self._count + 1, dtype=np.int32), len(found))
        ids = np.repeat(good["image_id"].to_numpy(), self._count)
        return pa.table([ids, ranks, names.take(pa.array(found.ravel())), confidences.ravel()], schema=_CONCEPTS)

    def _ratings(self, good: pa.Table) -> pa.Table:
        properties = sorted({name for one in self._scorers if one.head.measured for name in one.head.measured.names})
        rows = good.select(["image_id", "vector", "etag", *properties])
        rows = rows.append_column("done", pa.nulls(rows.num_rows, pa.list_(pa.int32()))).combine_chunks()
        return pa.Table.from_batches(score(self._scorers, properties)(iter(rows.to_batches())), schema=SCORED)


def _scorers(lake: str, model: str, heads: Mapping[str, str]) -> list[Scorer]:
    """The heads of the lake as the last whole run scored them, with the quantiles that it told. Networks look at
    pictures, and are left to the next one; so are heads that have gone or are others now."""
    found = []
    try:
        for key in sorted(heads.keys() & set(store.keys(lake))):
            kept = store.read(lake, key)
            usable = kept.head.model == model and kept.head.kind != NETWORK and len(kept.quantiles)
            if usable and kept.digest == heads[key]:
                found.append(Scorer(kept.head, kept.quantiles))
    except InputError as error:  # of the lake, not of what arrives
        raise LakeError(str(error)) from error
    return found
