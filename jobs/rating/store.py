"""Heads of a lake: under LAKE/ratings-heads the files NAME@REVISION.safetensors, its card, and the quantiles of its
scores in this lake."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InputError, LakeError
from udfs.ratings import files
from udfs.ratings.heads import Head, HeadError
from udfs.stores import objects, uris
from udfs.stores.s3 import StoreError

FOLDER = "ratings-heads"
MOST_HEADS = 100
QUANTILES = 1001  # of the scores, by which the percentile of a score is told to a thousandth


@dataclass(frozen=True)
class Kept:
    """A head of a lake. quantiles: (k,) ascending scores of the lake, empty where it was not scored yet; images: of how
    many. digest: of all that decides a score and its percentile."""

    head: Head
    quantiles: NDArray[np.float64]
    images: int
    digest: str


def keys(lake: str) -> list[str]:
    """name@revision of the heads of a lake, in order. Raises StoreError."""
    names = [name for name in objects.list_small(uris.join(lake, FOLDER)) if name.endswith(".safetensors")]
    return [name.removesuffix(".safetensors") for name in names]


def find(lake: str, name: str) -> Kept:
    """A head by name@revision, or by its name: the last of its revisions, by number where they are numbers. Raises
    InputError."""
    known = keys(lake)
    if name not in known:
        own = [key for key in known if key.partition("@")[0] == name]
        if not own:
            raise InputError(f"no rating {name!r} (there are: {', '.join(known) or 'none'})")
        name = max(own, key=_revision)
    return read(lake, name)


def _revision(key: str) -> tuple[int, str]:
    revision = key.partition("@")[2]
    return (int(revision) if revision.isascii() and revision.isdigit() and len(revision) < 10 else -1), revision


def next_key(lake: str, name: str) -> str:
    """NAME@N with the first N that no revision has yet; a key as it is. Raises InputError for one that is no name."""
    key = name if "@" in name else f"{name}@1"
    if not files.KEY.fullmatch(key):
        raise InputError(f"{name!r} must be NAME or NAME@REVISION, of letters, digits, '.', '_' and '-'")
    known = keys(lake)
    if "@" in name:
        if name in known:
            raise InputError(f"{name} is there already: name another revision")
        return name
    numbers = [_revision(key)[0] for key in known if key.partition("@")[0] == name]
    return f"{name}@{max([0, *numbers]) + 1}"


def read(lake: str, key: str) -> Kept:
    """Raises InputError for a head that cannot be used."""
    place = uris.join(lake, FOLDER, key)
    try:
        numbers = objects.read_small(f"{place}.safetensors", files.MOST_BYTES)
        card = objects.read_small(f"{place}.json", files.MOST_CARD_BYTES)
        head = files.read(numbers, card, f"{place}.safetensors")
    except HeadError as error:
        raise InputError(str(error)) from error
    except FileNotFoundError as error:
        raise InputError(f"{place}.json: there is no card beside the head") from error
    if head.key != key:
        raise InputError(f"{place}.json: is the card of {head.key}")
    quantiles, images = np.zeros(0), 0
    try:
        given = json.loads(objects.read_small(f"{place}.quantiles", files.MOST_CARD_BYTES))
        quantiles, images = np.asarray(given["quantiles"], np.float64), int(given["images"])
        if given["digest"] != files.digest(head) or not np.isfinite(quantiles).all() or quantiles.ndim != 1:
            quantiles, images = np.zeros(0), 0
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place}.quantiles: cannot be read ({error}): remove it") from error
    return Kept(head, quantiles, images, files.digest(head))


def all_of(lake: str) -> list[Kept]:
    """All heads of a lake. Raises InputError, LakeError for more than MOST_HEADS."""
    known = keys(lake)
    if len(known) > MOST_HEADS:
        raise LakeError(f"{lake}: {len(known)} ratings, at most {MOST_HEADS} can be kept")
    return [read(lake, key) for key in known]


def write(lake: str, head: Head) -> str:
    """Keeps a head; the numbers come last, for they make it known. Returns where. Raises StoreError."""
    numbers, card = files.written(head)
    place = uris.join(lake, FOLDER, head.key)
    objects.put(f"{place}.json", card)
    objects.put(f"{place}.safetensors", numbers)
    return f"{place}.safetensors"


def with_quantiles(lake: str, kept: Kept, scores: NDArray[np.float64], images: int) -> Kept:
    """The head with the quantiles of a sample of the lake's scores, which are kept. Raises StoreError."""
    quantiles = np.quantile(scores, np.linspace(0, 1, QUANTILES)) if len(scores) else np.zeros(0)
    told = {"quantiles": quantiles.tolist(), "images": images, "digest": kept.digest}
    objects.put(f"{uris.join(lake, FOLDER, kept.head.key)}.quantiles", json.dumps(told).encode())
    return replace(kept, quantiles=quantiles, images=images)


def keep_judged(lake: str, key: str, ids: NDArray[np.int64]) -> None:
    """Keeps which images of this lake a head was learnt from; they are not suggested again."""
    objects.put(f"{uris.join(lake, FOLDER, key)}.judged", json.dumps(np.unique(ids).tolist()).encode())


def judged(lake: str, key: str) -> NDArray[np.int64]:
    """The images of this lake that a head was learnt from; none where that was another lake. Raises InputError."""
    place = f"{uris.join(lake, FOLDER, key)}.judged"
    try:
        return np.array(json.loads(objects.read_small(place, files.MOST_CARD_BYTES)), np.int64).reshape(-1)
    except FileNotFoundError:
        return np.zeros(0, np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{place}: cannot be read ({error}): remove it") from error


def remove(lake: str, key: str) -> None:
    """Removes a head; its rows go with the next run."""
    place = uris.join(lake, FOLDER, key)
    for ending in ("safetensors", "json", "quantiles", "judged"):
        objects.delete(f"{place}.{ending}")


def copied(lake: str, file: str) -> Head:
    """A head file of another lake, to be kept in this one. file: a canonical URI of NAME@REVISION.safetensors, its card
    beside it. Raises InputError."""
    if not file.endswith(".safetensors"):
        raise InputError(f"{file}: must end in .safetensors")
    try:
        numbers = objects.read_small(file, files.MOST_BYTES)
        head = files.read(numbers, objects.read_small(file.removesuffix(".safetensors") + ".json"), file)
    except HeadError as error:
        raise InputError(str(error)) from error
    except FileNotFoundError as error:
        raise InputError(f"{file}: it, or the card .json beside it, is not there") from error
    except StoreError as error:
        raise InputError(str(error)) from error
    if head.key in keys(lake):
        raise InputError(f"{head.key} is there already: name another revision")
    return head
