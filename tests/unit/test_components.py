"""Catches components that differ from networkx's: one split in two, two joined, or one named after the wrong image."""

import networkx as nx
import numpy as np
import pytest

from tests import graphs
from udfs.vectors.components import label_components


@pytest.mark.parametrize("seed", range(graphs.COUNT))
def test_like_networkx(seed: int) -> None:
    """Any graph of sparse, dense, chain and star ones, with shuffled, turned and repeated edges and huge ids."""
    graph = graphs.seeded(seed)
    ends = np.array(graphs.shuffled_edges(graph, seed), np.int64).reshape(-1, 2)
    nodes, lowest = label_components(ends[:, 0], ends[:, 1])
    assert dict(zip(nodes.tolist(), lowest.tolist(), strict=True)) == graphs.expected(graph)
    assert nodes.tolist() == sorted(nodes.tolist())


def test_no_edges() -> None:
    """A crash on a lake without near-duplicates."""
    nodes, lowest = label_components(np.empty(0, np.int64), np.empty(0, np.int64))
    assert len(nodes) == len(lowest) == 0


@pytest.mark.parametrize("times", [127, 128, 255, 256, 512])
def test_an_edge_repeated_until_its_count_overflows(times: int) -> None:
    """Edges counted in one byte: 256 of them would be none."""
    nodes, lowest = label_components(np.full(times, 7), np.full(times, 9))
    assert (nodes.tolist(), lowest.tolist()) == ([7, 9], [7, 7])


def test_a_chain_longer_than_any_number_of_rounds() -> None:
    """An algorithm that stops after so many rounds."""
    count = 20_000
    order = np.random.default_rng(0).permutation(count)
    nodes, lowest = label_components(order[:-1], order[1:])
    assert len(nodes) == count
    assert set(lowest.tolist()) == {0}


def test_a_star_and_a_giant() -> None:
    """A node of too many edges, and a component that holds nearly all nodes."""
    leaves = 100_000
    nodes, lowest = label_components(np.full(leaves, leaves), np.random.default_rng(1).permutation(leaves))
    assert (len(nodes), set(lowest.tolist())) == (leaves + 1, {0})
    generator = np.random.default_rng(2)
    later, pairs = np.arange(1, 90_000), np.arange(90_000, 100_000, 2)
    earlier = (generator.random(len(later)) * later).astype(np.int64)  # a random tree
    nodes, lowest = label_components(np.concatenate([later, pairs]), np.concatenate([earlier, pairs + 1]))
    assert nodes.tolist() == list(range(100_000))
    assert lowest.tolist() == [0] * 90_000 + np.repeat(pairs, 2).tolist()


def test_the_graphs_are_of_all_kinds() -> None:
    """An oracle that compares nothing: the seeds must give several components, big ones, and isolated nodes."""
    drawn = [graphs.seeded(seed) for seed in range(graphs.COUNT)]
    assert max(max(map(len, nx.connected_components(graph))) for graph in drawn) > 60
    assert sum(nx.number_connected_components(graph) > 3 for graph in drawn) > 20
    assert sum(nx.number_of_isolates(graph) > 0 for graph in drawn) > 10
