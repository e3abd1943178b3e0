"""Packs: pictures of one owner as one row, which holds their facts, URIs and vectors as bytes.

A run of the stage adds packs for what is new, and for what is gone; of a picture that stands in several the last run
counts (a log-structured merge tree: O'Neil et al., 1996)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.vectors.cosine import Ids
from udfs.vectors.similarity import THRESHOLDS, Pairs, near_pairs, widened

KEY_DIGITS = 15  # of SHA-256 in hexadecimal: a key is a whole number below 2**60
KEY_BITS = 4 * KEY_DIGITS
UNKNOWN = np.iinfo(np.int64).min  # in the place of a time
MARK_GONE = 0
# A row a picture. mark: of what is told of it, MARK_GONE where it is the owner's no more. taken: microseconds since
# 1970, UTC. by_camera: whether its EXIF block told when, else it is when the file was changed. quality: 0 to 1, or NaN.
FACTS = np.dtype(
    [("image_id", "<i8"), ("mark", "<i8"), ("taken", "<i8"), ("quality", "<f4"), ("uri_bytes", "<u4"),
     ("by_camera", "u1")]
)  # fmt: skip
# Pictures of one pack that are alike: rows of its vectors, left < right, and their float32 product.
PAIRS = np.dtype([("left", "<u2"), ("right", "<u2"), ("product", "<f4")])
LEAST = min(THRESHOLDS.values())  # cosine of a pair
MOST_PAIRS = 1 << 16  # of a pack: 512 KB
ROWS = pa.schema(
    [
        pa.field("owner_key", pa.int64(), False),
        pa.field("owner", pa.string(), False),
        pa.field("run", pa.int64(), False),
        pa.field("part", pa.int32(), False),
        pa.field("model", pa.string(), False),
        pa.field("facts", pa.binary(), False),
        pa.field("uris", pa.binary(), False),
        pa.field("pairs", pa.binary(), True),  # null: more than MOST_PAIRS
        pa.field("vectors", pa.binary(), False),
    ]
)


@dataclass(frozen=True)
class Pictures:
    """Pictures of an owner. facts: (n,) of FACTS. uris: n UTF-8 texts. vectors: (n, d) float16, of the pictures that
    are not gone, in their order: as the embed stage rounds them. pairs: of the vectors; None: not known."""

    facts: NDArray[np.void]
    uris: list[bytes]
    vectors: NDArray[np.float16]
    pairs: Pairs | None = None

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def ids(self) -> Ids:
        return np.ascontiguousarray(self.facts["image_id"])

    def of(self, chosen: NDArray[np.bool_]) -> Pictures:
        """Those that are chosen: (n,)."""
        there = self.facts["mark"] != MARK_GONE
        uris = [uri for uri, wanted in zip(self.uris, chosen.tolist(), strict=True) if wanted]
        return Pictures(self.facts[chosen], uris, self.vectors[chosen[there]])

    def compared(self) -> Pictures:
        """The same with its pairs, where they are not too many."""
        found = near_pairs(widened(self.vectors), LEAST, most=MOST_PAIRS) if len(self.vectors) else NO_PAIRS
        return Pictures(self.facts, self.uris, self.vectors, found)


NO_PAIRS = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), LEAST)


def key_of(owner: str) -> int:
    """By which owners are ordered and told apart in the files: the first digits of SHA-256."""
    return int(hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_DIGITS], 16)


def packed(pictures: Pictures) -> tuple[bytes, bytes, bytes | None, bytes]:
    """The columns facts, uris, pairs and vectors of a row."""
    told = None
    if pictures.pairs is not None:
        rows = np.empty(len(pictures.pairs.left), PAIRS)
        for name in PAIRS.names or ():
            rows[name] = getattr(pictures.pairs, name)
        told = rows.tobytes()
    vectors = np.ascontiguousarray(pictures.vectors).tobytes()
    return pictures.facts.tobytes(), b"".join(pictures.uris), told, vectors


def unpacked(facts: bytes, uris: bytes, pairs: bytes | None, vectors: bytes) -> Pictures:
    """What packed() made a row of. Raises ValueError where the bytes do not fit together."""
    told, uris = np.frombuffer(facts, FACTS), bytes(uris)
    there = int(np.count_nonzero(told["mark"] != MARK_GONE))
    ends = np.cumsum(told["uri_bytes"], dtype=np.int64).tolist()
    if (ends[-1] if ends else 0) != len(uris):
        raise ValueError("a pack whose URIs have another length than it tells")
    names = [uris[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if not there:
        return Pictures(told, names, np.empty((0, 0), np.float16), NO_PAIRS)
    if len(vectors) % (2 * there):
        raise ValueError("a pack whose vectors are of no length")
    numbers = np.frombuffer(vectors, np.float16).reshape(there, -1)
    if pairs is None:
        return Pictures(told, names, numbers)
    rows = np.frombuffer(pairs, PAIRS)
    left, right = rows["left"].astype(np.int64), rows["right"].astype(np.int64)
    if len(rows) and (int(right.max()) >= there or (left >= right).any()):
        raise ValueError("a pack whose pairs are of no rows")
    return Pictures(told, names, numbers, Pairs(left, right, np.ascontiguousarray(rows["product"]), LEAST))


def newest(packs: Iterable[tuple[int, Pictures]]) -> Pictures:
    """One album of the packs of one owner, each with its run: of each picture as the last run told it, in the order of
    the ids; those that are gone are left out."""
    parts = sorted(packs, key=lambda pack: -pack[0])
    if not parts:
        return Pictures(np.empty(0, FACTS), [], np.empty((0, 0), np.float16), NO_PAIRS)
    facts = np.concatenate([part.facts for _, part in parts])
    uris = [uri for _, part in parts for uri in part.uris]
    _, first = np.unique(facts["image_id"], return_index=True)  # the first of the parts, which is of the last run
    rows = first[facts["mark"][first] != MARK_GONE]
    there = np.cumsum(facts["mark"] != MARK_GONE) - 1
    found = [part.vectors for _, part in parts if len(part.vectors)]
    vectors = found[0] if len(found) == 1 else np.concatenate(found) if found else np.empty((0, 0), np.float16)
    at = there[rows]
    place = np.full(len(vectors), -1)
    place[at] = np.arange(len(at))
    if len(at) != len(vectors) or not np.array_equal(at, np.arange(len(vectors))):
        vectors = vectors[at]
    pairs = _joined([part for _, part in parts if len(part.vectors)], place, vectors)
    return Pictures(facts[rows], [uris[row] for row in rows.tolist()], vectors, pairs)


def merged(packs: Sequence[tuple[int, Pictures]], gone: bool) -> Pictures:
    """One pack of the packs of one owner, each with its run and no run twice for a picture: of each picture as the last
    run told it, in the order of the ids. gone: whether those that are gone stay in it. Its pairs are not known."""
    parts = sorted(packs, key=lambda pack: -pack[0])
    facts = np.concatenate([part.facts for _, part in parts])
    uris = [uri for _, part in parts for uri in part.uris]
    _, rows = np.unique(facts["image_id"], return_index=True)  # the first of the parts, which is of the last run
    there = facts["mark"] != MARK_GONE
    rows = rows if gone else rows[there[rows]]
    found = [part.vectors for _, part in parts if len(part.vectors)]
    vectors = np.concatenate(found) if found else np.empty((0, 0), np.float16)
    at = (np.cumsum(there) - 1)[rows[there[rows]]]
    return Pictures(facts[rows], [uris[row] for row in rows.tolist()], vectors[at])


def _joined(parts: list[Pictures], place: Ids, vectors: NDArray[np.float16]) -> Pairs | None:
    """The pairs of an album: those of its packs, and those between them. place: of each row of all parts in vectors, -1
    where it is none of them."""
    found, end = [NO_PAIRS], 0
    wide = widened(vectors) if len(parts) > 1 else np.empty((0, 0), np.float32)
    for number, part in enumerate(parts):
        own, end = place[end : end + len(part.vectors)], end + len(part.vectors)
        if part.pairs is None:
            return None
        left, right = own[part.pairs.left], own[part.pairs.right]
        stay = (left >= 0) & (right >= 0)
        found.append(_ordered(left[stay], right[stay], part.pairs.product[stay]))
        mine, later = own[own >= 0], place[end:][place[end:] >= 0]
        if number + 1 < len(parts) and len(mine) and len(later):
            between = near_pairs(wide[mine], LEAST, wide[later])
            if between is None:
                return None
            found.append(_ordered(mine[between.left], later[between.right], between.product))
    left, right, product = (np.concatenate(columns) for columns in list(zip(*found, strict=True))[:3])
    return Pairs(left, right, product, LEAST)


def _ordered(left: Ids, right: Ids, product: NDArray[np.float32]) -> Pairs:
    return Pairs(np.minimum(left, right), np.maximum(left, right), product, LEAST)


def held(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Maps (owner, run, facts) to HELD: a row for each picture of each pack."""
    for batch in batches:
        for owner, run, facts in zip(*(batch.column(name).to_pylist() for name in HELD_OF), strict=True):
            told = np.frombuffer(facts, FACTS)
            count = len(told)
            yield pa.RecordBatch.from_arrays(
                [pa.array([owner] * count, pa.string()), pa.array(np.ascontiguousarray(told["image_id"])),
                 pa.array(np.full(count, run, np.int64)), pa.array(np.ascontiguousarray(told["mark"]))],
                schema=HELD,
            )  # fmt: skip


HELD_OF = ("owner", "run", "facts")
HELD = pa.schema(
    [
        pa.field("owner", pa.string(), False),
        pa.field("image_id", pa.int64(), False),
        pa.field("run", pa.int64(), False),
        pa.field("mark", pa.int64(), False),
    ]
)
