"""Albums: some images of a lake, scored on the spot; no engine is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.engines import delta_log
from jobs.errors import InputError
from jobs.rating import store
from jobs.rating.store import Kept
from jobs.rating.vectors import LakeRows
from udfs.ratings.heads import HeadError
from udfs.ratings.raters import of_rater
from udfs.ratings.rows import percentiles
from udfs.stores import uris

if TYPE_CHECKING:
    import pandas as pd

NAMED = 3


class Album:
    """Images whose vectors are kept until the lake changes. asked: image_ids and URIs."""

    def __init__(self, lake: str, asked: tuple[int | str, ...]) -> None:
        """Raises InputError: an image that the lake does not have, or that has no vector."""
        self.asked = asked
        self._lake = lake
        self._version = delta_log.version(uris.join(lake, "embeddings"))
        self._ids, self._uris = _found(lake, asked)
        self._vectors: dict[str, np.ndarray] = {}
        self._heads: dict[str, Kept] = {}

    def is_current(self) -> bool:
        """Whether the vectors are still those of the lake."""
        return self._version == delta_log.version(uris.join(self._lake, "embeddings"))

    def rate(self, rating: str, rater: str | None) -> pd.DataFrame:
        """See imagesieve.Lake.rate."""
        import pandas as pd

        if rating not in self._heads:
            self._heads[rating] = store.find(self._lake, rating)
        kept = self._heads[rating]
        head = kept.head
        if rater is not None:
            if head.raters is None or rater not in head.raters.names:
                raise InputError(f"{head.key} knows no rater {rater!r}")
            head = of_rater(head, rater)
        rows = LakeRows(self._lake, head.model)
        if head.model not in self._vectors:
            known, vectors = rows.vectors(self._ids)
            lacking = self._ids[~np.isin(self._ids, known)]
            if len(lacking):
                raise InputError(
                    f"{len(lacking):,} images have no vector of {head.model} (the first: {int(lacking[0])})"
                )
            self._vectors[head.model] = vectors[np.searchsorted(known, self._ids)]
        properties = None if head.measured is None else rows.properties(self._ids, head.measured.names)
        try:
            scores, unsure = head.scores(self._vectors[head.model], properties)
        except HeadError as error:
            raise InputError(str(error)) from error
        known_place = len(kept.quantiles) > 0 and rater is None
        place = percentiles(kept.quantiles, scores) if known_place else np.full(len(scores), np.nan)
        return pd.DataFrame(
            {"image_id": self._ids, "uri": self._uris, "score": scores, "percentile": place, "uncertainty": unsure}
        )


def _found(lake: str, asked: tuple[int | str, ...]) -> tuple[np.ndarray, list[str]]:
    rows = LakeRows(lake, "")
    numbers = [image for image in asked if isinstance(image, int)]
    try:
        texts = {image: uris.canonical(image, base=str(Path.cwd())) for image in asked if isinstance(image, str)}
    except ValueError as error:
        raise InputError(str(error)) from error
    where = pc.field("image_id").isin(pa.array(numbers, pa.int64())) | pc.field("uri").isin(
        pa.array(list(texts.values()), pa.string())
    )
    table = rows.rows("images", ("image_id", "uri"), where)
    uri_of = dict(zip(table["image_id"].to_pylist(), table["uri"].to_pylist(), strict=True))
    id_of = {uri: image_id for image_id, uri in uri_of.items()}
    ids = [image if isinstance(image, int) else id_of.get(texts[image], -1) for image in asked]
    missing = [str(image) for image, image_id in zip(asked, ids, strict=True) if image_id not in uri_of]
    if missing:
        raise InputError(f"{len(missing):,} images are not in {lake} ({', '.join(missing[:NAMED])})")
    return np.array(ids, np.int64), [uri_of[image_id] for image_id in ids]
