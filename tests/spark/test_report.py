"""The report read from tables: numbers that add up, a bounded number of everything, and tables that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs import report
from jobs.engines.frames import frame_of
from jobs.pages import classes as report_classes
from jobs.pages import render
from jobs.pages import rows as report_rows
from jobs.pages.values import OTHER_SPLITS, Class, Leaks, LeftOut, Topic, Vote
from jobs.tables import TABLES
from tests.spark import small_lake
from tests.spark.small_lake import Picture
from tests.unit.test_report_pages import HOSTILE, Page

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pyspark.sql import SparkSession

    from jobs.stage import Context

LABELS = report_classes.LARGEST + report_classes.SMALLEST + 30
SPLITS = report_rows.SPLITS_SHOWN + 4
TOPICS = 9


def fill(context: Context) -> None:
    """Tables with more classes, splits, pairs and topics than are shown; names are hostile."""
    lake = context.lake
    assert isinstance(lake, small_lake.MemoryLake)

    def put(name: str, *rows: dict[str, Any]) -> None:
        schema = TABLES[name].schema
        values = [tuple(r.get(c) for c in schema.names) for r in rows]
        lake.tables[name] = frame_of(lake.spark, values, schema).coalesce(1)

    put(
        "issues",
        *[{"image_id": i, "issue": "dark", "score": 0.01 * i, "suggestion": "review"} for i in range(5)],
        {"image_id": 1, "issue": "wrong_label", "score": 0.1, "evidence_id": 2, "cosine": 0.75,
         "suggestion": "relabel", "suggested_label": HOSTILE[1]},
        {"image_id": 2, "issue": "leak", "score": 0.0, "evidence_id": 1, "cosine": 1.0, "detail": "exact",
         "suggestion": "review"},
        {"image_id": 3, "issue": "exact_duplicate", "score": 0.0, "evidence_id": 4, "cosine": 1.0,
         "suggestion": "remove"},
        {"image_id": 3, "issue": "flat", "score": 0.2, "suggestion": "remove"},
        {"image_id": 11, "issue": "corrupted", "score": 0.0, "suggestion": "review"},
    )  # fmt: skip
    put(
        "classes",
        *[{"label": f"class {i:03}", "split": f"split {i % SPLITS:02}", "images": 1000 - i, "flagged": i % 2,
           "why_left_out": "too few" if i >= LABELS - 3 else None} for i in range(LABELS)],
        {"label": "class 000", "split": None, "images": 5, "flagged": 0, "noise": 0.1, "noise_low": 0.05,
         "noise_high": 0.2, "accuracy": 0.9, "accuracy_corrected": 0.95, "accuracy_without": 0.94},
        {"label": None, "split": "split 00", "images": 77, "flagged": 0},
    )  # fmt: skip
    put(
        "confusions",
        *[{"label": f"class {i:03}", "other_label": "class 000", "images": i, "share": 0.001 * i}
          for i in range(1, report_classes.PAIRS + 9)],
        {"label": HOSTILE[0], "other_label": HOSTILE[1], "images": 999, "share": 0.5},
    )  # fmt: skip
    common = {"label": HOSTILE[0], "suggested_label": HOSTILE[1], "suggested_confidence": 0.9, "neighbour_share": 0.1,
              "probability_wrong": 0.9}  # fmt: skip
    put(
        "labels",
        {"image_id": 1, "confidence": 0.05, "score": 0.2, "flagged": True, "evidence_id": 2, **common},
        {"image_id": 3, "confidence": 0.04, "score": 0.1, "flagged": True, "evidence_id": 4, **common},
        {"image_id": 0, "confidence": 0.01, "score": 0.0, "flagged": False, "evidence_id": 4, **common},
        {"image_id": 4, "confidence": 0.3, "score": 0.6, "flagged": False,
         **common, "label": "class 032", "suggested_label": "class 000"},
    )  # fmt: skip
    put("topics", *[{"image_id": i, "topic_id": i % 2, "distance": 0.5} for i in range(10)])
    put(
        "topic_summaries",
        *[{"topic_id": i, "images": 10 * i, "typical_ids": [i, 8, 9], "concepts": [(HOSTILE[2], 7)], "labels": []}
          for i in range(TOPICS)],
    )  # fmt: skip
    put(
        "leaks",
        *[{"image_id": i, "between": "split", "here": "test", "there": "train", "other_id": 9, "cosine": 1.0,
           "agreement": 1.0, "kind": "exact" if i % 2 else "near"} for i in range(5)],
        {"image_id": 7, "between": "source", "here": "b", "there": "a", "other_id": 8, "kind": "near", "cosine": 0.9,
         "agreement": 0.8},
    )  # fmt: skip
    put(
        "runs",
        *[{"run_id": str(n), "job": "labels", "counts": f'{{"in": 3, "out": 3, "failed": 0, "notes": ["note {n}"],'
           f'"wrong": {{"share": {n / 100}, "low": 0.01, "high": 0.03}}}}',
           "version": "", "config": '{"settings": {}}', "inputs": "{}", "started_at": small_lake.SOME_DAY,
           "ended_at": small_lake.SOME_DAY.replace(day=n), "seconds": 1.0, "status": "done"} for n in (2, 1)],
    )  # fmt: skip


def test_what_the_report_shows(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count that is not that of the tables, a list without bound, a finding without its evidence, a raw name."""
    pictures = [
        Picture(i, None if i == 11 else (1.0, 0.0), split=f"split {i:02}", size_bytes=1000 + i) for i in range(12)
    ]
    told: dict[str, Any] = {}
    write_report = render.write_report

    def write(folder: Path, *values: Any, **settings: Any) -> Path:
        names = ("summary", "galleries", "clusters", "failures", "topics", "classes", "ratings")
        told.update(zip(names, values, strict=True))
        return write_report(folder, *values, **settings)

    monkeypatch.setattr(render, "write_report", write)
    monkeypatch.setattr(report, "make_thumbnails", lambda context, ids: {i: b"webp" for i in ids if i != 9})
    with small_lake.in_memory(
        spark, tmp_path / "lake", pictures, "report.topics=4", "report.topic_images=2"
    ) as context:
        fill(context)
        counts = report.write(context, str(tmp_path / "report"))
    assert counts == {"in": 9, "out": 9, "failed": 0}  # images 0..4 of issues, 5..8 of topics; never 9, the third

    summary = told["summary"]
    assert (summary.with_issues, summary.removable, summary.relabel, summary.review) == (6, 1, 1, 5)
    assert summary.removable_bytes == 1003
    assert summary.splits == {**{f"split {i:02}": 1 for i in range(8)}, OTHER_SPLITS: 4}
    assert summary.leaks == [Leaks("source", "b", "a", 0, 1), Leaks("split", "test", "train", 2, 3)]
    assert [(stage.job, stage.counts, stage.notes) for stage in summary.stages] == [
        ("labels", {"in": 3, "out": 3, "failed": 0}, ["note 2"])
    ]
    assert (summary.issues["flat"], summary.issues["noisy"]) == (1, 0)

    found = {gallery.issue: gallery.findings for gallery in told["galleries"]}
    assert set(found) == {"dark", "wrong_label", "leak", "exact_duplicate", "flat"}
    wrong, leak = found["wrong_label"][0], found["leak"][0]
    assert (wrong.picture.image_id, wrong.evidence.image_id, wrong.cosine) == (1, 2, 0.75)
    assert (wrong.suggested_label, wrong.vote) == (HOSTILE[1], Vote(0.05, 0.9, 0.1))
    assert (leak.detail, leak.cosine, leak.vote) == ("exact", 1.0, None)

    topics = told["topics"]
    assert (topics.total, topics.images, len(topics.topics)) == (TOPICS, 360, 4)
    assert [topic.topic_id for topic in topics.topics] == [8, 7, 6, 5]
    assert [picture.image_id for picture in topics.topics[1].typical] == [7, 8]
    assert topics.topics[0] == Topic(8, 80, topics.topics[0].typical, [(HOSTILE[2], 7)], [], 0)

    classes = told["classes"]
    sizes = [1005, *[1000 - i for i in range(1, LABELS)]]
    assert (classes.total, classes.biggest, classes.smallest) == (LABELS, 1005, min(sizes))
    assert classes.images == sum(sizes) + 77
    assert len(classes.splits) == report_rows.SPLITS_SHOWN + 2  # others, and none
    assert classes.left_out == [LeftOut("too few", 3, sum(sizes[-3:]))]
    by_label = {one.label: one for one in classes.classes}
    assert len(by_label) == report_classes.LARGEST + report_classes.SMALLEST + 1
    assert by_label["class 000"] == Class(
        "class 000", {"split 00": 1000, None: 5}, noise=(0.1, 0.05, 0.2), accuracy=(0.9, 0.95, 0.94)
    )  # fmt: skip
    assert by_label["class 001"].noise is None
    assert classes.noise == (0.02, 0.01, 0.03)
    assert by_label[None].splits == {"split 00": 77}
    assert by_label[f"class {LABELS - 1}"].why_left_out == "too few"
    assert (len(classes.confusions), classes.confused) == (report_classes.PAIRS, report_classes.PAIRS + 9)
    assert classes.confusions[0].example.picture.image_id == 3  # the lowest score of those that are flagged
    assert classes.confusions[0].example.evidence.image_id == 4
    assert classes.confusions[1].example.picture.image_id == 4  # none is flagged
    assert classes.confusions[1].example.evidence is None
    assert classes.confusions[2].example is None
    for name in ("index.html", "topics.html", "classes.html", "wrong_label.html"):
        page = Page(tmp_path / "report" / name)
        assert not page.tags & {"script", "iframe"}
        assert not any(key.startswith("on") for key, _ in page.attributes)


def test_tables_that_are_missing_or_empty(spark: SparkSession, tmp_path: Path) -> None:
    """A stage that never ran, a set without labels: a page that is not there, never a crash."""
    with small_lake.in_memory(spark, tmp_path / "lake", []) as context:
        lake = context.lake
        lake.overwrite("issues", lake.read("issues"))
        assert report.write(context, str(tmp_path / "report")) == {"in": 0, "out": 0, "failed": 0}
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["index.html", "thumbs"]
    assert "The lake has no images yet." in Page(tmp_path / "report" / "index.html").text
