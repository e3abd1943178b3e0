"""Catches groups that differ from what the pipeline's rule says, and bad vectors that are grouped all the same."""

import networkx as nx
import numpy as np
import pytest

from tests.vectors import families, unit
from udfs.vectors import similarity
from udfs.vectors.cosine import Vectors, cosine_pairs
from udfs.vectors.keepers import SMALL
from udfs.vectors.similarity import Groups, group


def expected(vectors: Vectors, threshold: float, slack: float, order: list[int]) -> list[int]:
    """The keeper of each row, pair by pair: components by networkx, then the greedy rule. order: the best row first."""
    count = len(vectors)
    left, right = np.triu_indices(count, 1)
    cosines = np.eye(count)
    cosines[left, right] = cosines[right, left] = cosine_pairs(vectors[left], vectors[right])
    linked: nx.Graph[int] = nx.Graph()
    linked.add_nodes_from(range(count))
    linked.add_edges_from(np.argwhere(np.triu(cosines >= threshold, 1)).tolist())
    keepers = [-1] * count
    for part in nx.connected_components(linked):
        members = [row for row in order if row in part]
        for row in members:
            if keepers[row] < 0:
                for other in members:
                    if keepers[other] < 0 and (other == row or cosines[row, other] >= threshold - slack):
                        keepers[other] = row
    return keepers


@pytest.mark.parametrize("slack", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_like_the_rule_pair_by_pair(seed: int, threshold: float, slack: float) -> None:
    """A block's border that loses pairs, components that leak into one another, and an order that is not the given."""
    vectors = families(seed, 500, dimension=16)
    quality = np.random.default_rng(seed).permutation(len(vectors)).astype(np.float64)
    found = group(vectors, threshold, quality, slack)
    wanted = expected(vectors, threshold, slack, np.argsort(-quality).tolist())
    sizes = np.bincount(wanted)
    assert (sizes == 1).any(), "some must be alone"
    assert threshold > 0.7 or sizes.max() > SMALL / 2, "some must be many"
    assert found.keeper.tolist() == wanted
    np.testing.assert_allclose(
        found.cosine[found.keeper != np.arange(500)],
        cosine_pairs(vectors, vectors[found.keeper])[found.keeper != np.arange(500)],
    )


def test_clusters_are_numbered_by_their_first_rows() -> None:
    """Numbers with gaps, or in the order of the keepers."""
    a, b, c = np.eye(3)
    found = group([b, a, b, c, a], quality=[0, 0, 1, 9, 2])
    assert found.cluster.tolist() == [0, 1, 0, 2, 1]
    assert found.keeper.tolist() == [2, 4, 2, 3, 4]
    assert found.cosine.tolist() == [1.0] * 5


def test_equal_quality_keeps_the_first_row() -> None:
    """A tie that the sort decides."""
    same = np.ones((40, 3))
    assert set(group(same).keeper.tolist()) == {0}
    assert set(group(same, quality=[1] * 20 + [2] * 20).keeper.tolist()) == {20}


def test_the_order_of_rows_does_not_matter() -> None:
    """Groups that depend on which block of rows an image falls into."""
    vectors = families(3, 400)
    quality = np.arange(400)[::-1]
    order = np.random.default_rng(5).permutation(400)
    one, other = group(vectors, 0.5, quality), group(vectors[order], 0.5, quality[order])
    assert one.keeper[order].tolist() == order[other.keeper].tolist()
    np.testing.assert_array_equal(one.cosine[order], other.cosine)


def test_a_pair_at_the_threshold_is_decided_exactly() -> None:
    """A decision in float32: 0.6 and 0.8 have no exact square, yet the cosine of these two is 0.6."""
    pair = unit([[1.0, 0.0], [0.6, 0.8]])
    assert group(pair, 0.6, keeper_slack=0).keeper.tolist() == [0, 0]
    assert group(pair, 0.600001, keeper_slack=0).keeper.tolist() == [0, 1]


def test_length_and_type_do_not_matter() -> None:
    """Vectors that are compared before they are normalised, or that overflow."""
    vectors = families(4, 200).astype(np.float64)
    longer = vectors * np.logspace(-100, 100, 200)[:, np.newaxis]
    assert group(longer).keeper.tolist() == group(vectors).keeper.tolist()
    assert group([[3, 4], [30, 40], [-3, -4]]).keeper.tolist() == [0, 0, 2]
    assert group(vectors.astype(np.float16)).cosine.max() == 1.0


def test_many_equal_rows_are_joined_in_bounded_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges that are reduced to components half-way and then lost, or kept until the memory is full."""
    monkeypatch.setattr(similarity, "EDGES_AT_ONCE", 50)
    vectors = np.concatenate([np.repeat(np.eye(4)[:1], 300, 0), families(6, 300, 4)])
    wanted = expected(unit(vectors), 0.9, 0.0, list(range(600)))
    assert group(vectors, 0.9, keeper_slack=0).keeper.tolist() == wanted


@pytest.mark.parametrize("threshold", ["low", "medium", "high"])
def test_names(threshold: str) -> None:
    """A name that means another cosine than the table says."""
    vectors = families(8, 300, dimension=8)
    cosine = {"low": 0.65, "medium": 0.75, "high": 0.85}[threshold]
    assert group(vectors, threshold).keeper.tolist() == group(vectors, cosine).keeper.tolist()
    assert 1 < len(set(group(vectors, threshold).cluster.tolist())) < 300


def test_none_and_one() -> None:
    """A crash on an empty album."""
    assert [part.tolist() for part in group([])] == [[], [], []]
    assert [part.tolist() for part in group(np.empty((0, 512)))] == [[], [], []]
    assert group([[0.5, 0]]) == Groups(np.array([0]), np.array([0]), np.array([1.0]))


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([1.0, 2.0], r"\(n, d\) numbers"),
        (np.zeros((2, 2, 2)), r"\(n, d\) numbers"),
        ([["a", "b"]], r"\(n, d\) numbers"),
        ([[1.0 + 1j, 2.0]], r"\(n, d\) numbers"),
        ([[1.0, 0.0], [np.nan, 0.0]], "row 1 is not"),
        ([[1.0, np.inf]], "row 0 is not"),
        ([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], r"row 1 is not \(2 such rows\)"),
        (np.ones((3, 0)), "row 0 is not"),
        (np.ones((similarity.MAX_ROWS + 1, 1)), "at most 10000, got 10001"),
    ],
)
def test_bad_vectors_are_refused(vectors: object, said: str) -> None:
    """A row that is like everything or nothing because it holds NaN or zeros, and an album too large to wait for."""
    with pytest.raises(ValueError, match=said):
        group(vectors)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", ["High", "", 0, -0.5, 1.01, float("nan")])
def test_bad_thresholds_are_refused(threshold: str | float) -> None:
    """A misspelt name taken for the default, and a percentage for a cosine."""
    with pytest.raises(ValueError, match="threshold must be"):
        group(np.eye(3), threshold)


@pytest.mark.parametrize("quality", [[1, 2], [[1], [2], [3]], [1, 2, float("nan")], ["a", "b", "c"], [1, 2, None]])
def test_bad_qualities_are_refused(quality: list[object]) -> None:
    """A quality that is not that of the rows, or that orders nothing."""
    with pytest.raises(ValueError, match="quality must be 3 numbers"):
        group(np.eye(3), quality=quality)  # type: ignore[arg-type]


@pytest.mark.parametrize("slack", [-0.1, 1.5, float("nan")])
def test_bad_slacks_are_refused(slack: float) -> None:
    """A slack that makes members closer to their keeper than linked ones are."""
    with pytest.raises(ValueError, match="keeper_slack must be"):
        group(np.eye(3), keeper_slack=slack)
