"""Catches duplicates that are missed or joined wrongly, the wrong keeper, and cluster ids that do not stay."""

from __future__ import annotations

import datetime
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from jobs import clusters
from jobs.engines.frames import frame_of
from jobs.tables import TABLES
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.vectors import unit
from udfs.images import hash_distance
from udfs.images.hash_distance import ALIKE_BITS
from udfs.images.hashing import perceptual_hash
from udfs.images.starts import SIDE, symmetries
from udfs.vectors.cosine import Vectors
from udfs.vectors.near_rule import NearRule
from udfs.vectors.similarity import group

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.stage import Context

DIMENSION = 48
# A plain threshold: the rule of the background has tests of its own.
PLAIN = (
    "clusters.threshold=0.9", "clusters.certain=0.9", "clusters.margin=0", "clusters.evidence=0",
    "clusters.keeper_slack=0",
)  # fmt: skip
Rows = list[dict[str, Any]]


def around(seed: int, count: int, middle: tuple[float, ...] | None = None) -> list[tuple[float, ...]]:
    """count vectors around a direction, a random one if none is given; any two have a cosine of about 0.98."""
    generator = np.random.default_rng(seed)
    directions = unit(generator.normal(size=(1, DIMENSION))) if middle is None else np.array([middle])
    vectors = unit(directions + 0.02 * generator.normal(size=(count, DIMENSION)))
    return [tuple(vector.tolist()) for vector in vectors]


def chain(seed: int, count: int) -> list[tuple[float, ...]]:
    """count vectors 20 degrees apart on an arc: next ones match (0.94), others do not (0.77 and less)."""
    a, b = np.linalg.qr(np.random.default_rng(seed).normal(size=(DIMENSION, 2)))[0].T
    angles = np.radians(20) * np.arange(count)
    return [tuple(vector.tolist()) for vector in unit(np.outer(np.cos(angles), a) + np.outer(np.sin(angles), b))]


def planted() -> tuple[list[Picture], dict[str, list[int]]]:
    """Images and the ids of each planted group, of which the first is the keeper."""
    pictures: list[Picture] = []
    groups: dict[str, list[int]] = {}

    def add(name: str, vectors: list[tuple[float, ...]], *better: dict[str, Any], plain: dict[str, Any]) -> None:
        """better: what sets the images apart from plain, in the order of the vectors."""
        first = len(pictures)
        for number, vector in enumerate(vectors):
            values = {**plain, **(better[number] if number < len(better) else {})}
            pictures.append(Picture(first + number, vector, f"{name} {number}").but(**values))
        groups[name] = list(range(first, len(pictures)))

    usual = {"width": 640, "size_bytes": 1000}
    day = {"modified_at": small_lake.SOME_DAY}
    later = {"modified_at": small_lake.SOME_DAY + datetime.timedelta(microseconds=1)}
    large = {"sharpness": 900.0, "size_bytes": 9000, "jpeg_quality": 99.0}
    add("pixels", around(1, 4), large, {"width": 641, **later}, large, plain=usual)
    squeezed = {**large, "jpeg_quality": 49.0}
    add("squeezed", around(2, 3), squeezed, {**later, "jpeg_quality": 50.0}, squeezed, plain=usual)
    add("bytes", around(3, 4), {"size_bytes": None}, {}, {"size_bytes": None}, {"size_bytes": 1001}, plain=usual)
    add("age", around(9, 4), {**later, **large}, {"modified_at": None}, later, day, plain=usual)
    add("age of copies", around(10, 1) * 3, {"modified_at": None}, later, day, plain={**usual, "content": "three ages"})
    add("uri", around(4, 7), plain=usual)
    add("unknown age", around(11, 2), plain={**usual, "modified_at": None})
    add("unknown bytes", around(5, 3), {}, plain={**usual, "size_bytes": None})
    add("chain", chain(6, 5), {"width": 900}, {}, {"width": 800}, plain=usual)
    add("copies", around(7, 1) * 3, {}, {"width": 700}, plain={**usual, "content": "one picture"})
    add("near and copies", around(8, 3), {}, {"content": "twice"}, plain=usual)
    twin = pictures[-2]
    pictures.append(twin.but(image_id=len(pictures), size_bytes=999))
    groups["near and copies"].append(len(pictures) - 1)
    add("single", [vector for seed in range(20, 40) for vector in around(seed, 1)], plain=usual)
    keepers = {"pixels": 1, "squeezed": 1, "bytes": 3, "age": 3, "age of copies": 2, "copies": 1}
    for name, number in keepers.items():
        groups[name].insert(0, groups[name].pop(number))
    return pictures, groups


def computed(context: Context, pictures: list[Picture]) -> tuple[Rows, dict[str, int]]:
    """The table of the pictures in the lake, sorted, and the stage's counts."""
    context.lake.overwrite("neighbours", small_lake.nearest(context.lake.spark, pictures))
    counts = clusters.clusters(context)
    return table(context), counts


def table(context: Context) -> Rows:
    return [row.asDict() for row in context.lake.read("duplicates").orderBy("image_id").collect()]


def members(rows: Rows) -> dict[int, list[int]]:
    """cluster_id -> its images."""
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(row["cluster_id"], []).append(row["image_id"])
    return found


@pytest.fixture(scope="module")
def found(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, dict[str, int]]:
    pictures, _ = planted()
    with small_lake.in_memory(spark, tmp_path_factory.mktemp("clusters"), pictures, *PLAIN) as context:
        return computed(context, pictures)


def test_planted_groups_are_found(found: tuple[Rows, dict[str, int]]) -> None:
    """A group missed, cut or joined to another, and a single image in any."""
    pictures, groups = planted()
    whole = {frozenset(ids) for name, ids in groups.items() if name not in ("single", "chain")}
    a, b, c, d, _ = groups["chain"]
    rows, counts = found
    assert {frozenset(ids) for ids in members(rows).values()} == whole | {frozenset((a, b)), frozenset((c, d))}
    assert sorted(members(rows)) == list(range(len(whole) + 2))
    assert counts["in"] == counts["out"] == len(pictures)
    assert (counts["in_clusters"], counts["clusters"]) == (len(rows), len(whole) + 2)
    assert counts["split_components"] == 0


def test_a_chain_is_split_but_stays_one_component(found: tuple[Rows, dict[str, int]]) -> None:
    """Images joined by others between them, and parts of one component that nobody can find again."""
    _, groups = planted()
    a, b, c, d, e = groups["chain"]
    by_image = {row["image_id"]: row for row in found[0]}
    assert e not in by_image
    assert by_image[b]["keeper_id"] == a
    assert by_image[d]["keeper_id"] == c
    assert {by_image[image_id]["component_id"] for image_id in (a, b, c, d)} == {by_image[a]["component_id"]}
    components = Counter(row["component_id"] for row in found[0])
    assert components[by_image[a]["component_id"]] == 4
    assert all(row["component_id"] <= row["cluster_id"] for row in found[0])


def test_the_keeper_is_the_best(found: tuple[Rows, dict[str, int]]) -> None:
    """The keeper that the rule does not name: more pixels, sharper, more bytes, older (unknown last), then the URI."""
    _, groups = planted()
    by_image = {row["image_id"]: row for row in found[0]}
    for name, ids in groups.items():
        if name not in ("single", "chain"):
            assert {by_image[image_id]["keeper_id"] for image_id in ids} == {ids[0]}, name


def test_rows_are_consistent(found: tuple[Rows, dict[str, int]]) -> None:
    """A wrong size, cosine or kind, or two keepers."""
    pictures, _ = planted()
    at = {picture.image_id: picture for picture in pictures}
    sizes = Counter(row["cluster_id"] for row in found[0])
    keepers = Counter(row["cluster_id"] for row in found[0] if row["is_keeper"])
    assert keepers == dict.fromkeys(sizes, 1)
    for row in found[0]:
        own, keeper = at[row["image_id"]], at[row["keeper_id"]]
        assert row["cluster_size"] == sizes[row["cluster_id"]]
        assert row["is_keeper"] == (row["image_id"] == row["keeper_id"])
        assert row["cosine_to_keeper"] == pytest.approx(np.dot(own.vector or (), keeper.vector or ()), abs=1e-6)
        assert row["cosine_to_keeper"] >= 0.9


def test_copies_join_the_cluster_of_their_representative(found: tuple[Rows, dict[str, int]]) -> None:
    """A copy left out because only its representative was searched, or called near."""
    _, groups = planted()
    by_image = {row["image_id"]: row for row in found[0]}
    assert {by_image[image_id]["kind"] for image_id in groups["copies"]} == {"exact"}
    assert {by_image[image_id]["kind"] for image_id in groups["near and copies"]} == {"near"}
    assert {by_image[image_id]["kind"] for image_id in groups["uri"]} == {"near"}


def test_same_whatever_the_partitions_and_the_size_of_tasks(
    spark: SparkSession, tmp_path: Path, found: tuple[Rows, dict[str, int]]
) -> None:
    """A result that depends on partitions, row order, or on how many images of a component one task may take."""
    pictures, _ = planted()
    usual = str(spark.conf.get("spark.sql.shuffle.partitions"))
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        with small_lake.in_memory(spark, tmp_path, pictures, *PLAIN, shuffled=4) as context:
            assert computed(context, pictures) == found
            in_rounds = small_lake.with_settings(context, *PLAIN, "clusters.max_component=5")
            assert (clusters.clusters(in_rounds), table(in_rounds)) == (found[1], found[0])
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", usual)


def test_like_group(spark: SparkSession, tmp_path: Path) -> None:
    """A library that groups an album otherwise than the pipeline does under the same rule."""
    generator = np.random.default_rng(12)
    middles = unit(generator.normal(size=(30, DIMENSION)))
    vectors = unit(middles[generator.integers(0, 30, 150)] + 0.05 * generator.normal(size=(150, DIMENSION)))
    pictures = [
        Picture(i, tuple(v), width=int(w))
        for i, (v, w) in enumerate(zip(vectors.tolist(), generator.integers(600, 640, 150), strict=True))
    ]
    slack = 0.05
    with small_lake.in_memory(spark, tmp_path, pictures, *PLAIN, f"clusters.keeper_slack={slack}") as context:
        rows, _ = computed(context, pictures)
    found = group(vectors, 0.9, [picture.width for picture in pictures], slack)
    sizes = np.bincount(found.keeper, minlength=150)[found.keeper]
    assert 20 < (sizes == 1).sum() < 100
    assert {row["cosine_to_keeper"] < 0.9 for row in rows} == {True, False}
    assert {row["image_id"]: (row["keeper_id"], row["cosine_to_keeper"]) for row in rows} == {
        row: (found.keeper[row], found.cosine[row]) for row in np.flatnonzero(sizes > 1)
    }


def test_ids_stay(spark: SparkSession, tmp_path: Path) -> None:
    """A cluster that gets another id when members come or go, and an id that is given out twice."""
    a, b, c = around(1, 4), around(2, 4), around(3, 2)
    first = [Picture(i, v) for i, v in enumerate(a[:3] + b + c)]
    # 0 leaves its cluster and 20 joins, with more pixels; all of c are gone.
    second = [p for p in first[1:] if p.image_id < 7] + [Picture(20, a[3], width=900)]
    third = second + [p.but(image_id=p.image_id + 30) for p in first[7:]]  # c is back, as new images
    states = []
    with small_lake.in_memory(spark, tmp_path, first, *PLAIN) as context:
        for state in (first, second, third):
            context.lake.tables |= small_lake.frames(spark, state)  # type: ignore[attr-defined]
            states.append(members(computed(context, state)[0]))
        assert context.lake.next_id("next_cluster_id") == 4
    assert states[0] == {0: [0, 1, 2], 1: [3, 4, 5, 6], 2: [7, 8]}
    assert states[1] == {0: [1, 2, 20], 1: [3, 4, 5, 6]}
    assert states[2] == {0: [1, 2, 20], 1: [3, 4, 5, 6], 3: [37, 38]}


def old_table(spark: SparkSession, was: dict[int, int]) -> DataFrame:
    rows = [(image_id, cluster, "near", image_id, False, 0.9, None, 0.8, 2, 0) for image_id, cluster in was.items()]
    return frame_of(spark, rows, TABLES["duplicates"].schema)


def given(spark: SparkSession, now: dict[int, int], was: dict[int, int], first: int) -> tuple[dict[int, int], int]:
    """now: image_id -> keeper_id. was: image_id -> cluster_id. Returns (keeper_id -> cluster_id, new ids)."""
    frame = frame_of(spark, list(now.items()), "image_id long, keeper_id long").repartition(3)
    ids, new = clusters.stable_ids(frame, old_table(spark, was), first)
    rows = ids.collect()
    assert len(rows) == len({row["keeper_id"] for row in rows})
    return {row["keeper_id"]: row["cluster_id"] for row in rows}, new


def test_stable_ids_of_splits_and_unions(spark: SparkSession) -> None:
    """An id that goes to the smaller part of a split, or to the smaller side of a union, or to both parts."""
    was = {1: 10, 2: 10, 3: 10, 4: 11, 5: 11, 6: 11, 7: 11, 8: 11, 30: 13, 31: 13, 40: 14, 41: 14, 42: 14, 60: 16,
           61: 16, 62: 16, 63: 16}  # fmt: skip
    now = {1: 20, 2: 20, 3: 20, 20: 20}  # 20 joins and is the keeper
    now |= {4: 4, 5: 4, 7: 7, 6: 7, 8: 7}  # a split: the larger part is 7's
    now |= {30: 30, 31: 30, 40: 30, 41: 30, 42: 30}  # a union: most of it was 14
    now |= {60: 60, 61: 60, 62: 62, 63: 62}  # a split in halves: the one with the lowest image
    now |= {50: 51, 51: 51}  # new
    ids, new = given(spark, now, was, 100)
    assert ids == {20: 10, 7: 11, 30: 14, 60: 16, 4: 100, 51: 101, 62: 102}
    assert new == 3


def test_stable_ids_invariants(spark: SparkSession) -> None:
    """An id given twice or out of nowhere, gaps in new ones, and a cluster that loses its id without need."""
    chance = random.Random(0)
    was = {image_id: chance.randrange(40) for image_id in range(200)}
    now = {image_id: chance.randrange(40) * 5 for image_id in range(60, 260)}
    ids, new = given(spark, now, was, 1000)
    assert set(ids) == set(now.values())
    assert len(set(ids.values())) == len(ids)
    assert sorted(i for i in ids.values() if i >= 1000) == list(range(1000, 1000 + new))
    votes = Counter((keeper, was[image_id]) for image_id, keeper in now.items() if image_id in was)
    for keeper, cluster in ids.items():
        if cluster < 1000:
            assert votes[keeper, cluster] == max(n for (other, _), n in votes.items() if other == keeper)
    kept = {image_id: ids[keeper] for image_id, keeper in now.items()}
    again, none = given(spark, now, kept, 2000)
    assert again == ids
    assert none == 0


def test_hashes_of_turned_pictures_differ_in_few_bits(spark: SparkSession) -> None:
    """A transpose the wrong way, a mask of the wrong axis, or a sign bit that a shift drags along."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (9, 9)).astype(np.uint8) for _ in range(20)]
    pictures = [np.asarray(cv2.resize(of, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8) for of in coarse]
    hashes = [[perceptual_hash(turned) for turned in symmetries(picture)] for picture in pictures]
    same = [(of[0], other) for of in hashes for other in of]
    others = [(hashes[n][0], hashes[n - 1][way]) for n in range(20) for way in range(8)]
    rows = frame_of(spark, [*same, *others], "src_perceptual_hash long, dst_perceptual_hash long")
    found = [row["differing"] for row in clusters.with_differing_bits(rows).collect()]
    assert max(found[: len(same)]) <= ALIKE_BITS
    assert sorted(found[: len(same)])[len(same) // 2] <= 2
    assert min(found[len(same) :]) > ALIKE_BITS
    at_the_door = [int(hash_distance.differing_bits(one, np.array([two]))[0]) for one, two in [*same, *others]]
    assert at_the_door == found, "one picture, in numpy, is told otherwise"


def near_pairs(spark: SparkSession, rows: list[tuple[int, int, int, float]], rule: NearRule) -> set[tuple[int, int]]:
    neighbour_rows = frame_of(spark, rows, TABLES["neighbours"].schema)
    ids = sorted({row[0] for row in rows} | {row[2] for row in rows})
    generator = np.random.default_rng(0)
    hashes = {i: int(generator.integers(-(2**63), 2**63)) for i in ids}
    hashes[12] = hashes.get(11, 0) ^ 0b1110001  # four bits differ
    looks = [(i, hashes[i], bytes(SIDE**2)) for i in ids]
    found = clusters.near_edges(
        neighbour_rows, frame_of(spark, looks, "image_id long, perceptual_hash long, thumbnail binary"), rule
    ).collect()
    assert len(found) == len({tuple(row) for row in found})
    return {(row["src"], row["dst"]) for row in found}


def test_edges_stand_out_from_their_background(spark: SparkSession) -> None:
    """A lake of one subject in which everything is a duplicate, a pair found from one side only, and an edge twice."""
    rows = [(1, 1, 2, 0.80), (1, 10, 90, 0.40), (2, 1, 1, 0.80), (2, 10, 91, 0.50)]  # stands out
    rows += [(3, 1, 4, 0.80), (3, 10, 92, 0.75), (4, 10, 93, 0.75)]  # among its like
    rows += [(5, 1, 6, 0.96), (5, 10, 94, 0.94), (6, 10, 95, 0.94), (94, 10, 5, 0.94), (95, 10, 6, 0.94)]  # certain
    rows += [(8, 3, 7, 0.80)]  # no background known; 7 does not have 8 among its nearest
    rows += [(9, 1, 10, 0.59)]  # below the threshold
    rows += [(11, 1, 12, 0.80), (11, 10, 96, 0.79), (12, 10, 97, 0.79)]  # among its own copies, and of one hash
    assert near_pairs(spark, rows, NearRule(0.6, 0.2, 0.95)) == {(1, 2), (5, 6), (7, 8), (11, 12)}


def test_no_near_duplicates(spark: SparkSession) -> None:
    """A crash on a lake without any pair."""
    assert near_pairs(spark, [(1, 1, 2, 0.1)], NearRule(0.6, 0.2, 0.95)) == set()


def test_the_planted_vectors() -> None:
    """An oracle that plants nothing: groups close, chains only from one to the next, everything else far."""
    close: Vectors = np.array(around(1, 7) + around(2, 1), np.float32)
    cosines = close @ close.T
    assert cosines[:7, :7].min() > 0.95
    assert abs(cosines[7, :7]).max() < 0.6
    arc: Vectors = np.array(chain(6, 5), np.float32)
    assert [bool(c > 0.9) for c in (arc @ arc.T)[0]] == [True, True, False, False, False]
