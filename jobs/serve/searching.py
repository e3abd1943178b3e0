"""Searching: by a picture of the lake, by one that is given, and by words."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.engines import delta_log
from jobs.engines.datasets import dataset
from jobs.indexing import opening, reading, store
from jobs.indexing.opening import Opened
from jobs.indexing.vector_index import VectorIndex
from jobs.serve.columns import Columns, Rows
from jobs.serve.door.reading import Reader
from jobs.serve.filters import FilterError
from jobs.serve.gallery import folder_of
from jobs.serve.recent import Recent
from udfs.networks import cards, concepts, models
from udfs.networks.models import ModelError
from udfs.networks.nouns import nouns
from udfs.networks.text_side import TextSide
from udfs.stores import fetch, uris
from udfs.stores.cache import user_cache

KEPT = 200  # answers, and as many given pictures
HANG_S = 60.0
MAX_PIXELS = 178_956_970  # as embed.max_pixels
Found = tuple[Rows, NDArray[np.float32]]


def index_folder(lake: str, at: dict[str, int | None]) -> Path:
    """Where the index of these versions lies on this machine, whether or not it is there. at: of the gallery's
    tables; those that the index is made of are taken as they are now where they are not among them."""
    folder = folder_of(lake, {**reading.versions(lake), **at})
    return folder.with_name(f"index-{store.LAYOUT}-{folder.name}")


class Searches:
    """The searches of one gallery. at: the versions of its tables. They wait for an index that is made in a thread."""

    def __init__(
        self, lake: str, at: dict[str, int | None], columns: Columns, limits: fetch.Limits, max_pixels: int
    ) -> None:
        self._lake, self._at, self._columns = lake, at, columns
        self._limits, self._max_pixels = limits, max_pixels
        self.index: VectorIndex | None = None
        self.opened: Opened | None = None
        self.progress, self.fault = 0.0, ""
        self._model = self._model_of_lake()
        self._given: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._text: Recent[TextSide] = Recent(1, lambda _: 1)
        self._answers: Recent[Found] = Recent(KEPT, lambda _: 1)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._begin, name="index", daemon=True)
        self._thread.start()

    @property
    def has_words(self) -> bool:
        return self.index is not None and (self.index.has_classes or self._model.has_text)

    @property
    def model(self) -> str:
        """The key of the network whose vectors are searched."""
        return self._model.key

    @property
    def told(self) -> dict[str, Any]:
        """What the page says of the index: whose it is, of how many pictures, and its recall as it was measured."""
        if self.opened is None:
            return {}
        recall = self.opened.recall
        return {
            "index": self.opened.source, "indexed": self.opened.index.images, "note": self.opened.note or None,
            "recall": None if recall is None else {**asdict(recall)},
        }  # fmt: skip

    def wait(self, most_s: float | None = None) -> None:
        """Until the index is there, or cannot be, or so many seconds are over."""
        self._thread.join(most_s)

    def find(self, wanted: tuple[str, str]) -> Found:
        """Rows, the best first, and how alike they are (a cosine), or how sure the network is. wanted: one of
        filters.SEARCHES, and of what. Raises FilterError."""
        index = self.index
        how, what = wanted
        if index is None:
            raise FilterError(f"{how}: {self.fault or 'the index is still being made'}")
        return self._answers.get(wanted, lambda: self._found(index, how, what))

    def put(self, data: bytes) -> str:
        """Embeds a picture that is given, and returns what finds it again. Raises FilterError."""
        key = hashlib.sha256(data).hexdigest()[:32]
        if key not in self._given:
            vector = self._embedded(data)
            with self._lock:
                self._given[key] = vector
                while len(self._given) > KEPT:
                    self._given.popitem(last=False)
        return key

    def _found(self, index: VectorIndex, how: str, what: str) -> Found:
        if how == "like":
            row = self._columns.rows_of([int(what)]).get(int(what))
            found = None if row is None else index.like_row(row)
            if found is None:
                raise FilterError(f"like: image {what} has no vector")
            return found
        if how == "picture":
            if what not in self._given:
                raise FilterError("picture: it is not here any more; give it again")
            return index.like(self._given[what])
        if self._model.has_text:
            try:
                return index.described(self._text.get("", lambda: TextSide(self._model, user_cache())).vector(what))
            except (ModelError, OSError) as error:
                raise FilterError(f"words: {error}") from error
        if not index.has_classes:
            raise FilterError(f"words: {self._model.key} does not know words")
        weights = [nouns().weights(term) for term in nouns().terms(what)]
        weights = [one for one in weights if one.any()]
        if not weights:
            raise FilterError(
                f"words: nothing is known of {what!r}; try a noun, such as the name of an animal or a thing"
            )
        return index.of_classes(weights)

    def _begin(self) -> None:
        try:
            if delta_log.version(uris.join(self._lake, "embeddings")) is None:
                self.fault = "this lake has no vectors"
                return
            at = {name: self._at.get(name, now) for name, now in reading.versions(self._lake).items()}
            reader = opening.Reader(
                self._lake, self._model.key, at, concepts.prepare(self._model, user_cache()), self._columns.rows_of_ids,
                index_folder(self._lake, {**self._at, **at}), self._says,
            )  # fmt: skip
            found = reader.opened()
            self.fault = "" if found is not None else f"this lake has no vectors of {self._model.key}"
            if found is not None:
                self.opened, self.index = found, found.index
        except Exception as error:  # whoever searches is told
            self.fault = " ".join(str(error).split()) or type(error).__name__

    def _says(self, share: float) -> None:
        self.progress = share

    def _model_of_lake(self) -> models.Model:
        """Whose vectors the last run of embed has made; a card as the last run has recorded it."""
        if delta_log.version(uris.join(self._lake, "runs")) is None:
            return models.find(models.DEFAULT)
        rows = dataset(self._lake, "runs").to_table(columns=["job", "ended_at", "config", "status"])
        runs = [run for run in rows.sort_by([("ended_at", "descending")]).to_pylist() if run["status"] == "done"]
        embedded = next((json.loads(run["config"]) for run in runs if run["job"] == "embed"), None)
        if embedded is None:
            return models.find(models.DEFAULT)
        key = embedded["settings"].get("model", "")
        if key in models.MODELS:
            return models.MODELS[key]
        for run in runs:
            card = json.loads(run["config"]).get("all", {}).get("models", {}).get(key)
            if card:
                found = cards.recorded(key, card)
                if found is not None:
                    return found
        name, _, revision = key.partition("@")
        return models.Model(name, revision, "vectors", 0, 0, "", "", "")

    def _embedded(self, data: bytes) -> NDArray[np.float32]:
        """Of norm 1."""
        if self._model.key not in models.MODELS:
            raise FilterError(f"picture: the network of {self._model.key} is not here")
        done = Reader(self._model, self._limits, self._max_pixels, HANG_S).given(data)
        if done["vector"] is None:
            raise FilterError(f"picture: it cannot be read: {done['error']}")
        return np.array(done["vector"], np.float32)
