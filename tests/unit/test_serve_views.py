"""Catches a filter, an order or a count of the app that is not what the tables say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable
from numpy.typing import NDArray

from jobs.serve import gallery
from jobs.serve.columns import STEPS, Coded, Columns
from jobs.serve.filters import FACETS, Filter, FilterError
from jobs.serve.views import Views
from jobs.tables import ISSUES
from tests.bench import serve_lake

IMAGES = 3000
Row = dict[str, Any]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "lake"
    serve_lake.write(folder, IMAGES, labels=20)
    return folder


@pytest.fixture(scope="module")
def columns(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Columns:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGESIEVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return gallery.opened(str(lake), gallery.versions(str(lake)))


@pytest.fixture(scope="module")
def decided() -> Coded:
    codes = np.zeros(IMAGES, np.uint8)
    codes[[5, 7, 1000]] = [1, 2, 1]
    return Coded(codes, [(), ("keep",), ("remove",)])


@pytest.fixture(scope="module")
def views(columns: Columns, decided: Coded) -> Views:
    found = np.array([9, 3, 2500, 5], np.int32), np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    return Views(columns, lambda: (decided, 0), lambda _: found, lambda _: np.array([4, 8, 77777], np.int64))


@pytest.fixture(scope="module")
def rows(lake: Path) -> list[Row]:
    """All images with what the tables say of them, joined here by hand, in the order of their ids."""

    def of(table: str) -> list[Row]:
        found: list[Row] = DeltaTable(str(lake / table)).to_pyarrow_table().to_pylist()
        return found

    joined = {row["image_id"]: {**row, "issues": set(), "suggested": None} for row in of("images")}
    for table in ("features", "scores", "duplicates", "topics", "concepts", "map"):
        for row in of(table):
            joined[row["image_id"]] |= row
    for row in of("issues"):
        joined[row["image_id"]]["issues"].add(row["issue"])
        if row["issue"] == "wrong_label":
            joined[row["image_id"]]["suggested"] = row["suggested_label"]
    return [joined[i] for i in sorted(joined)]


LASSO = ((0.1, 0.1), (0.9, 0.2), (0.2, 0.9), (0.8, 0.9), (0.5, 0.0))
LASSO_TEXT = ",".join(f"{x},{y}" for x, y in LASSO)


def in_lasso(row: Row) -> bool:
    """By the even-odd rule, at the place as the gallery keeps it."""
    if "x" not in row:
        return False
    x, y = (round(row[name] * STEPS) / STEPS for name in ("x", "y"))
    odd = False
    for (ax, ay), (bx, by) in zip(LASSO, LASSO[1:] + LASSO[:1], strict=True):
        odd ^= (ay > y) != (by > y) and x > ax + (y - ay) * (bx - ax) / (by - ay)
    return odd


CASES: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "label=class+0003": lambda row: row["label"] == "class 0003",
    "label=class+0003&label=class+0004": lambda row: row["label"] in ("class 0003", "class 0004"),
    f"lasso={LASSO_TEXT}": in_lasso,
    f"lasso={LASSO_TEXT}&split=train": lambda row: in_lasso(row) and row["split"] == "train",
    "label=nosuch": lambda row: False,
    "issue=dark": lambda row: "dark" in row["issues"],
    "issue=dark&issue=": lambda row: not row["issues"] or "dark" in row["issues"],
    "relation=brightness": lambda row: "brightness" in (row.get("relation") or "").split(),
    "kind=": lambda row: "kind" not in row,
    "suggested=": lambda row: row["suggested"] is None,
    "issue=blurry&split=train&medium=icon": lambda row: (
        "blurry" in row["issues"] and row["split"] == "train" and row["medium"] == "icon"
    ),
    "score=blur_score:0.25:0.5": lambda row: 0.25 <= row["blur_score"] <= 0.5,
    "score=blur_score::0.1&score=dark_score:0.9:": lambda row: row["blur_score"] <= 0.1 and row["dark_score"] >= 0.9,
    "text=CLASS+0007/0000": lambda row: "class 0007/0000" in row["uri"].lower(),
    "cluster=3": lambda row: row.get("cluster_id") == 3,
    "topic=7&split=val": lambda row: row["topic_id"] == 7 and row["split"] == "val",
    "folder=/data/photos/class+0003/": lambda row: row["uri"].startswith("/data/photos/class 0003/"),
    "folder=/data/photos&label=class+0003": lambda row: row["label"] == "class 0003",
    "folder=/data/photos/class+000": lambda row: False,
    "folder=/elsewhere/": lambda row: False,
    "new=r1": lambda row: row["image_id"] in (4, 8),
    "decision=keep": lambda row: row["image_id"] in (5, 1000),
    "decision=&text=0000": lambda row: row["image_id"] not in (5, 7, 1000) and "0000" in row["uri"],
}


def ids(columns: Columns, found: NDArray[np.int32]) -> list[int]:
    return [int(i) for i in columns.id[found]]


@pytest.mark.parametrize("query", CASES)
def test_what_a_view_holds(views: Views, columns: Columns, rows: list[Row], query: str) -> None:
    """A filter that holds another image, or an order that is not that of the ids."""
    view = Filter.of_query(query)
    expected = [row["image_id"] for row in rows if CASES[query](row)]
    assert ids(columns, views.rows(view, 0, IMAGES)) == expected
    assert views.total(view) == len(expected)
    assert ids(columns, views.rows(view, 3, 2)) == expected[3:5]


def test_facets_leave_their_own_choice_out(views: Views, rows: list[Row]) -> None:
    """Counts beside a filter that are not those of the images which the other filters hold."""
    found = views.facets(Filter.of_query("issue=dark&split=train"))
    assert set(found) == set(FACETS)
    dark = [row for row in rows if "dark" in row["issues"]]
    assert dict(found["split"]) == Counter(row["split"] for row in dark)
    train = [row for row in rows if row["split"] == "train"]
    expected = Counter(issue for row in train for issue in row["issues"] or {""})
    assert dict(found["issue"]) == expected
    assert [count for _, count in found["issue"]] == sorted(expected.values(), reverse=True)
    labels = Counter(row["label"] for row in train if "dark" in row["issues"])
    assert dict(found["label"]) == labels
    assert views.facet(Filter.of_query("split=val"), "label", "0003") == [
        ("class 0003", sum(row["split"] == "val" and row["label"] == "class 0003" for row in rows))
    ]


@pytest.mark.parametrize("sort", ["blur_score", "-blur_score", "size_bytes", "-size_bytes", "-image_id", "label_score"])
def test_orders(views: Views, columns: Columns, rows: list[Row], sort: str) -> None:
    """An order that is not that of the values, or that changes which images there are."""
    name = sort.removeprefix("-")
    view = Filter.of_query(f"sort={sort}&split=train")
    found = views.order(view)
    assert sorted(ids(columns, found)) == [row["image_id"] for row in rows if row["split"] == "train"]
    values = (columns.id if name == "image_id" else columns.numbers(name))[found].astype(np.int64)
    steps = np.diff(values)
    assert (steps <= 0).all() if sort.startswith("-") else (steps >= 0).all()


@pytest.mark.parametrize("query", ["", "sort=-blur_score", "sort=size_bytes&split=train", "issue=dark"])
def test_places_in_a_view(views: Views, columns: Columns, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is told to stand where another does, or in a view that does not hold it; both ways to find it."""
    view = Filter.of_query(query)
    order = views.rows(view, 0, IMAGES).tolist()
    for scanned in (IMAGES, 0):
        monkeypatch.setattr("jobs.serve.views.SCANNED", scanned)
        for place in (0, 1, len(order) // 2, len(order) - 1):
            assert views.place(view, order[place]) == place
        for row in set(range(50)) - set(order):
            assert views.place(view, row) is None


def test_a_search_orders_and_filters_cut_it(views: Views, columns: Columns, rows: list[Row]) -> None:
    """A search that loses its order, or ignores the filters."""
    assert views.order(Filter.of_query("like=1")).tolist() == [9, 3, 2500, 5]
    split = rows[2500]["split"]
    cut = views.order(Filter.of_query(f"like=1&split={split}")).tolist()
    assert 2500 in cut
    assert cut == [row for row in [9, 3, 2500, 5] if columns.coded("split").of(row) == (split,)]


def test_clusters_and_members(views: Views, columns: Columns, rows: list[Row]) -> None:
    """A cluster that lacks a member, or whose keeper is not the first."""
    total, found = views.clusters(Filter(), 0, 10)
    assert total == len({row["cluster_id"] for row in rows if "cluster_id" in row})
    members = ids(columns, columns.members(found[0]))
    of_it = [row for row in rows if row.get("cluster_id") == found[0]]
    assert sorted(members) == [row["image_id"] for row in of_it]
    assert next(row for row in of_it if row["is_keeper"])["image_id"] == members[0]
    one = views.clusters(Filter.of_query(f"cluster={found[3]}"), 0, 10)
    assert one == (1, [found[3]])


def test_confusions(views: Views, rows: list[Row]) -> None:
    """Pairs of labels that nobody suggested."""
    expected = Counter((row["label"], row["suggested"]) for row in rows if row["suggested"])
    assert {(a, b): n for a, b, n, _ in views.confusions()} == expected


def test_values_come_back(columns: Columns, rows: list[Row]) -> None:
    """A URI, an id or a score that is another's."""
    found = columns.rows_of([rows[17]["image_id"], -5, IMAGES + 9, 1 << 80])
    assert list(found) == [rows[17]["image_id"]]
    row = found[rows[17]["image_id"]]
    assert columns.uri(row) == rows[17]["uri"]
    assert columns.score("blur_score", row) == pytest.approx(rows[17]["blur_score"], abs=2e-5)
    assert set(columns.coded("issue").of(row)) == rows[17]["issues"]
    assert {name for names in columns.coded("issue").names for name in names} <= set(ISSUES)


@pytest.mark.parametrize(
    "query",
    ["issue=nosuch", "sort=uri", "sort=image_id;drop", "score=nosuch:0:1", "score=blur_score:nan:1",
     "cluster=-1", "like=x", "cluster=" + "9" * 30, "label=" + "x" * 501, "&".join(f"label={n}" for n in range(900)),
     "&".join(f"label={n}" for n in range(201)), "label=%00", "new=a/nosuch", "gone=a/b/c", "new=../x", "new=a..",
     "new=" + "a" * 101, "folder=" + "x" * 5000, "lasso=0,0,1,1", "lasso=0,0,1,1,0", "lasso=0,0,1,1,0,nan",
     "lasso=0,0,1,1,0,1.5", "lasso=0,0,1,1,0,-1", "lasso=0,0,1,1,0,1e9", "lasso=" + ",".join(["0.5"] * 130),
     "lasso=0,0,1,1,0,." + "1" * 30],
)  # fmt: skip
def test_views_that_cannot_be(query: str) -> None:
    """A query that gets further than its words."""
    with pytest.raises(FilterError):
        Filter.of_query(query)
