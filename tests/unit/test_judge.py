"""The judge of the demo: its shares must be countable by hand."""

import pytest

from jobs.demo.judge import Planted, Row, format_table, judge, total

TRUTH = [
    Planted("near_duplicate", "train/a/2.jpg", "train/a/1.jpg", "mirrored"),
    Planted("near_duplicate", "train/a/3.jpg", "train/a/1.jpg", "cropped"),
    Planted("exact_duplicate", "test/b/5.jpg", "train/b/4.jpg", "bytes"),
    Planted("leak", "test/b/5.jpg", "train/b/4.jpg", "bytes"),
    Planted("dark", "train/c/6.jpg"),
    Planted("dark", "train/c/7.jpg"),
    Planted("outlier", "train/c/8.jpg", required=False),
]


def rows(*issues: tuple[str, str, str | None]) -> dict[str, Row]:
    return {row.kind: row for row in judge(TRUTH, issues)}


def test_judge_counts_found_missed_and_false() -> None:
    got = rows(("/lake/train/c/6.jpg", "dark", None), ("s3://bucket/lake/train/c/9.jpg", "dark", None))
    assert got["dark"] == Row("dark", 2, 1, 1, 1, 0)
    assert got["dark"].found_share == 0.5
    assert got["dark"].false_share == 0.5
    assert got["leak"] == Row("leak", 1, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("flagged", "evidence", "found", "false"),
    [
        ("train/a/2.jpg", "train/a/1.jpg", 1, 0),
        ("train/a/1.jpg", "train/a/2.jpg", 1, 0),  # the tool kept the copy
        ("train/a/2.jpg", "train/a/3.jpg", 2, 0),  # two copies of one original find each other
        ("train/a/2.jpg", "train/b/4.jpg", 0, 1),  # of another group
        ("train/a/2.jpg", "train/z/0.jpg", 0, 1),
        ("train/a/2.jpg", "train/a/2.jpg", 0, 1),
        ("train/a/2.jpg", None, 0, 1),
    ],
)
def test_judge_takes_either_of_a_pair_and_wants_evidence(
    flagged: str, evidence: str | None, found: int, false: int
) -> None:
    row = rows((flagged, "near_duplicate", evidence))["near_duplicate"]
    assert (row.found, row.missed, row.false) == (found, 2 - found, false)


def test_judge_finds_a_group_of_three_by_its_two_flagged_members() -> None:
    got = rows(
        ("train/a/1.jpg", "near_duplicate", "train/a/3.jpg"), ("train/a/2.jpg", "near_duplicate", "train/a/3.jpg")
    )
    assert got["near_duplicate"] == Row("near_duplicate", 2, 2, 0, 0, 0)


def test_judge_wants_a_leak_to_cross_the_splits() -> None:
    assert rows(("train/b/4.jpg", "leak", "test/b/5.jpg"))["leak"] == Row("leak", 1, 1, 0, 0, 0)
    assert rows(("train/a/2.jpg", "leak", "train/a/1.jpg"))["leak"] == Row("leak", 1, 0, 1, 1, 0)


def test_judge_allows_what_is_true_but_was_not_planted() -> None:
    got = rows(("train/c/8.jpg", "outlier", None), ("test/b/5.jpg", "near_duplicate", "train/b/4.jpg"))
    assert got["outlier"] == Row("outlier", 0, 0, 0, 0, 1)
    assert got["near_duplicate"] == Row("near_duplicate", 2, 0, 2, 0, 1)


def test_judge_counts_a_row_once_and_reports_kinds_that_were_never_planted() -> None:
    got = rows(("train/c/6.jpg", "bright", None), ("train/c/6.jpg", "bright", None))
    assert got["bright"] == Row("bright", 0, 0, 0, 1, 0)
    assert got["bright"].false_share == 1.0


def test_table_has_a_line_a_kind_and_a_total() -> None:
    table = format_table([Row("dark", 2, 1, 1, 1, 0), Row("leak", 4, 4, 0, 0, 1)])
    assert table.splitlines() == [
        "issue              planted  found  missed  false  allowed  share found  share false",
        "-----------------------------------------------------------------------------------",
        "dark                     2      1       1      1        0        50.0%        50.0%",
        "leak                     4      4       0      0        1       100.0%         0.0%",
        "-----------------------------------------------------------------------------------",
        "total                    6      5       1      1        1        83.3%        16.7%",
    ]
    assert total([]) == Row("total", 0, 0, 0, 0, 0)
