"""Catches topics that miss a group, differ from run to run, or depend on how images are dealt to batches."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.vectors import unit
from udfs import content
from udfs.networks.concepts import Classifier
from udfs.vectors import topics

DIMENSION = 24


def groups(sizes: list[int], spread: float = 0.02, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows around as many directions as there are sizes, and the direction of each, in any order. All have much in
    common, as the vectors of real networks do."""
    generator = np.random.default_rng(seed)
    middles = np.eye(DIMENSION)[: len(sizes)] + 2 * np.eye(DIMENSION)[-1]
    which = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return unit(middles[which] + spread * generator.normal(size=(len(which), DIMENSION))), which


@pytest.mark.parametrize("seed", range(5))
def test_each_group_is_a_topic(seed: int) -> None:
    """A start at random, which gives large groups several centres and small ones none."""
    rows, which = groups([400, 300, 50, 30, 20, 10], 0.01, seed)
    found, distances = topics.train(rows, 6, seed).nearest(rows)
    assert len({(a, b) for a, b in zip(found.tolist(), which.tolist(), strict=True)}) == 6
    assert distances.max() < 0.1


def test_centres_are_the_means_of_their_images() -> None:
    """Iterations that stop too early, or distances to something else."""
    rows, _ = groups([60, 50, 40], spread=0.2)
    found = topics.train(rows, 3)
    places, distances = found.nearest(rows)
    apart = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    for place in range(3):
        middle = apart[places == place].sum(axis=0)
        middle /= np.linalg.norm(middle)
        np.testing.assert_allclose(1 - apart[places == place] @ middle, distances[places == place], atol=2e-4)
        assert (distances <= 1 - apart @ middle + 2e-4).all()


def test_the_same_sample_gives_the_same_topics() -> None:
    rows, _ = groups([50, 50, 50], spread=0.5)
    first, again = topics.train(rows, 8), topics.train(rows, 8)
    np.testing.assert_array_equal(first.centres, again.centres)
    assert not np.array_equal(first.centres, topics.train(rows, 8, seed=1).centres)


@pytest.mark.parametrize("count", [1, 4])
def test_equal_images_are_one_topic(count: int) -> None:
    """A start that draws for ever where nothing is left, and noise that passes for directions."""
    rows = np.repeat(groups([1])[0], 9, axis=0)
    found, distances = topics.train(rows, count).nearest(rows)
    assert set(found.tolist()) == {0}
    assert (distances == (0.0 if count == 1 else 1.0)).all()
    two = np.concatenate([rows, groups([1, 1], seed=3)[0]])
    assert len(topics.train(two, 9).centres) == 3


def test_the_usual_number() -> None:
    """A page of ten thousand topics, or none."""
    assert [topics.usual_count(n) for n in (1, 2, 50, 300, 5000, 20_000, 10**9)] == [1, 1, 5, 12, 50, 100, 100]
    counts = [topics.usual_count(n) for n in range(1, 3000)]
    assert all(before <= after for before, after in pairwise(counts))


# --- the pass over a table ---


def classifier() -> Classifier:
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(7, DIMENSION)).astype(np.float32)
    return Classifier(tuple("abcdefg"), weights, generator.normal(size=7).astype(np.float32))


def batches(rows: NDArray[np.float32], norms: NDArray[np.float32] | None, size: int) -> list[pa.RecordBatch]:
    table = pa.table(
        {
            "image_id": np.arange(len(rows)),
            "vector": pa.array(list(rows), pa.list_(pa.float32())),
            "norm": pa.nulls(len(rows), pa.float32()) if norms is None else norms,
        }
    )
    return list(table.to_batches(max_chunksize=size))


@pytest.mark.parametrize("size", [1, 7, 255, 256, 300, 1000])
def test_batches_change_nothing(size: int) -> None:
    """Bits of a product that depend on how many rows it has, or rows of the filling that come out."""
    rows, _ = groups([300, 200, 100], spread=0.3)
    norms = np.linspace(1, 20, len(rows)).astype(np.float32)
    learnt = topics.train(content.seen(classifier(), rows, norms), 5)
    run = content.describe(learnt, classifier(), 3)
    whole = pa.Table.from_batches(run(iter(batches(rows, norms, 600))))
    assert whole.schema == content.DESCRIBED
    assert pa.Table.from_batches(run(iter(batches(rows, norms, size)))).to_pylist() == whole.to_pylist()
    assert whole["image_id"].to_pylist() == list(range(600))
    found, confidences = content.named(classifier(), rows[:size], norms[:size], 3)
    told = whole["concepts"].to_pylist()[:size]
    assert [[one["confidence"] for one in each] for each in told] == confidences.tolist()
    assert [[one["concept"] for one in each] for each in told] == [
        [classifier().names[place] for place in each] for each in found.tolist()
    ]


def test_concepts_and_topics_belong_to_their_image() -> None:
    """Lists that are shifted against their images."""
    rows, _ = groups([200, 100], spread=0.3)
    norms = np.linspace(1, 20, len(rows)).astype(np.float32)
    known = classifier()
    logits = known.logits(rows, norms)
    learnt = topics.train(logits, 4)
    places, _ = learnt.nearest(logits)
    for row in pa.Table.from_batches(content.describe(learnt, known, 2)(iter(batches(rows, norms, 90)))).to_pylist():
        best = np.argsort(-logits[row["image_id"]])[:2]
        assert [one["concept"] for one in row["concepts"]] == [known.names[place] for place in best]
        assert row["place"] == places[row["image_id"]]


def test_without_a_classifier_the_vectors_tell_the_topics() -> None:
    """Imported vectors, whose norms are null."""
    rows, which = groups([30, 20])
    run = content.describe(topics.train(rows, 2), None, 5)
    found = pa.Table.from_batches(run(iter(batches(rows, None, 50)))).to_pylist()
    assert all(row["concepts"] == [] for row in found)
    assert len({(row["place"], int(which[row["image_id"]])) for row in found}) == 2
    empty = pa.RecordBatch.from_pylist([], schema=batches(rows, None, 50)[0].schema)
    assert [batch.num_rows for batch in run(iter([empty]))] == [0]
