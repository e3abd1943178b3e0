"""Seeded random graphs of many kinds and their components by networkx, the oracle of the components' tests."""

import random

import networkx as nx

COUNT = 100  # graphs
NODES = 80  # of the largest


def seeded(seed: int) -> "nx.Graph[int]":
    """A graph with spread and shuffled int64 ids: random, a chain, a star, a tree or cliques."""
    chance = random.Random(seed)
    count = chance.randint(2, NODES)
    kind = seed % 6
    if kind == 0:
        graph = nx.gnp_random_graph(count, chance.uniform(0.2, 2.0) / count, seed=seed)
    elif kind == 1:
        graph = nx.gnp_random_graph(count, chance.uniform(0.05, 0.5), seed=seed)
    elif kind == 2:
        graph = nx.path_graph(count)
    elif kind == 3:
        graph = nx.disjoint_union(nx.star_graph(count // 2), nx.star_graph(chance.randint(1, 5)))
    elif kind == 4:
        graph = nx.random_labeled_tree(count, seed=seed)
    else:
        graph = nx.disjoint_union_all([nx.complete_graph(chance.randint(1, 7)) for _ in range(chance.randint(1, 10))])
    ids = chance.sample(range(10**9), len(graph))
    ids[0] += 2**53  # as a double it would lose its last bit
    return nx.relabel_nodes(graph, dict(zip(graph.nodes, ids, strict=True)))


def extreme() -> "list[nx.Graph[int]]":
    """A long chain, a star of many leaves, and a graph of which nine tenths are one component."""
    giant = nx.disjoint_union(
        nx.random_labeled_tree(900, seed=0), nx.from_edgelist((n, n + 1) for n in range(0, 100, 2))
    )
    return [nx.path_graph(500), nx.star_graph(1000), giant]


def shuffled_edges(graph: "nx.Graph[int]", seed: int) -> list[tuple[int, int]]:
    """The edges in any order and direction, some of them twice."""
    chance = random.Random(seed)
    edges = [(b, a) if chance.random() < 0.5 else (a, b) for a, b in graph.edges]
    edges += chance.sample(edges, len(edges) // 10)
    chance.shuffle(edges)
    return edges


def expected(graph: "nx.Graph[int]") -> dict[int, int]:
    """Node -> lowest node of its component, of the nodes that have an edge."""
    return {node: min(part) for part in nx.connected_components(graph) if len(part) > 1 for node in part}
