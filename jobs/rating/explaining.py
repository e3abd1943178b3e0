"""Explaining a rating: for some pictures of a lake the map of a score, as a picture, as numbers and as regions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.errors import ConfigError, InputError
from jobs.rating import store
from jobs.rating.vectors import Ids, LakeRows
from udfs.errors import ImageError
from udfs.networks import preparation
from udfs.networks.models import Model
from udfs.ratings import maps
from udfs.ratings.explainer import EXACT, Explainer, kind_of, seen_by
from udfs.ratings.files import NETWORK
from udfs.ratings.heads import Head
from udfs.ratings.linear import PICKED, Numbers, expit
from udfs.stores import fetch
from udfs.stores.cache import user_cache

SIDE = 512  # pixels of an overlay's longer side, at most
MOST = 1000  # pictures of one call
WEBP_QUALITY = 82
ENDINGS = ("webp", "png")


@dataclass(frozen=True)
class Explained:
    """The map of one picture. how: explainer.EXACT or OCCLUDED. shares: (h, w) float64; exact ones add up to total: the
    score less its offset, of picks the log-odds less theirs. pixels: (h, w, 3) uint8 RGB, as it is shown."""

    image_id: int
    uri: str
    score: float
    how: str
    shares: Numbers
    total: float
    offset: float
    pixels: NDArray[np.uint8]


def explain(
    lake: LakeRows,
    model: Model,
    head: Head,
    uri: str | None,
    top: int,
    bottom: int,
    limits: fetch.Limits,
    max_pixels: int,
) -> list[Explained]:
    """Maps of one picture, or of those of the highest and of the lowest scores. Raises InputError, ConfigError."""
    if head.kind == NETWORK:
        raise ConfigError(f"{head.key} is a network of its own: maps are made of heads on vectors alone")
    if head.model != model.key:
        raise ConfigError(f"{head.key} is for vectors of {head.model}, the lake's are of {model.key}")
    ids = _chosen(lake, head, uri, top, bottom)
    rows = lake.rows(
        "images", ("image_id", "uri", "shard", "shard_offset", "size_bytes"), pc.field("image_id").isin(ids.tolist())
    )
    where = {row["image_id"]: row for row in rows.to_pylist()}
    known, vectors = lake.vectors(ids)
    explainer = Explainer(model, preparation.prepare(model, user_cache(), kind_of(model)).files)
    found = []
    for image_id in ids.tolist():
        if image_id not in where or image_id not in known:
            continue
        row = where[image_id]
        reference = fetch.Reference(row["uri"], row["shard"], row["shard_offset"], row["size_bytes"])
        try:
            data = fetch.fetch(reference, limits)
            square, shown = seen_by(data, model, max_pixels)
        except ImageError as error:
            raise InputError(f"{row['uri']}: {error.code}: {error.detail}") from error
        at = int(np.searchsorted(known, image_id))
        vector = vectors[at : at + 1]
        properties = None if head.measured is None else lake.properties(np.array([image_id]), head.measured.names)
        raw = float(head.raw(vector, properties)[0])
        slope = head.slope if head.kind == PICKED else 1.0
        total = slope * float(vector[0].astype(np.float64) @ head.layers[0].weights[0]) if head.linear else 0.0
        shares, how = explainer.shares(head, square)
        if how == EXACT:
            shares = maps.settled(shares[None], np.array([total]))[0][0]
        whole = slope * raw + (head.shift if head.kind == PICKED else 0.0)
        score = float(expit(np.array([whole]))[0]) if head.kind == PICKED else raw
        found.append(Explained(image_id, row["uri"], score, how, shares, total, whole - total, shown))
    return found


def _chosen(lake: LakeRows, head: Head, uri: str | None, top: int, bottom: int) -> Ids:
    if uri is not None:
        rows = lake.rows("images", ("image_id",), pc.field("uri") == uri)
        if not rows.num_rows:
            raise InputError(f"{uri} is no image of {lake.lake}")
        return np.asarray(rows["image_id"].to_numpy(), np.int64)
    rows = lake.rows("ratings", ("image_id", "score"), pc.field("rating") == head.key)
    if not rows.num_rows:
        raise InputError(
            f"{lake.lake}: no image has a score of {head.key} yet: run `imagesieve rate --lake {lake.lake}`"
        )
    order = pc.select_k_unstable(
        rows, k=min(rows.num_rows, max(top, bottom)), sort_keys=[("score", "descending" if top else "ascending")]
    )
    return np.asarray(rows.take(order)["image_id"].to_numpy(), np.int64)


def write(folder: Path, explained: list[Explained], head: Head, ending: str, fit: str) -> list[str]:
    """Writes for each picture IMAGE_ID.RATING.ENDING, .npy and, for all, RATING.json with regions. Returns the names.
    Raises InputError where the folder cannot be written."""
    most = max((float(np.abs(one.shares - one.shares.mean()).max()) for one in explained), default=1.0) or 1.0
    told, names = [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in explained:
            stem = f"{one.image_id}.{head.key}"
            shown = _small(_cropped(one.pixels) if fit == "crop" else one.pixels)
            picture = maps.overlay(shown, one.shares, most)
            quality = [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY] if ending == "webp" else []
            done, data = cv2.imencode(f".{ending}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
            if not done:
                raise InputError(f"{one.uri}: its overlay cannot be written as {ending}")
            (folder / f"{stem}.{ending}").write_bytes(data.tobytes())
            np.save(folder / f"{stem}.npy", one.shares, allow_pickle=False)
            names.append(f"{stem}.{ending}")
            told.append(
                {"image_id": one.image_id, "uri": one.uri, "score": one.score, "how": one.how, "total": one.total,
                 "offset": one.offset, "overlay": f"{stem}.{ending}", "map": f"{stem}.npy",
                 "regions": [vars(region) for region in maps.regions(one.shares)]}
            )  # fmt: skip
        (folder / f"{head.key}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    return names


def _cropped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    short = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - short) // 2, (pixels.shape[1] - short) // 2
    return pixels[top : top + short, left : left + short]


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def side_by_side(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """One picture of several of equal height."""
    return np.concatenate(pictures, axis=1)


def of_lake(lake: str, name: str) -> Head:
    """The head of a rating, by name or key. Raises InputError."""
    return store.find(lake, name).head
