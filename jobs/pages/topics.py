"""What the report says of topics, read from the tables: a bounded number of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.engines.frames import frame_of, small
from jobs.lakes import Lake
from jobs.pages.values import Picture, Topic, Topics

NAMES = 3  # concepts of a topic, and labels


@dataclass(frozen=True)
class TopicRows:
    """Topics, whose images still lack their pictures. rows: of topic_summaries. total, images: of all topics.
    with_issues: images with an issue, by topic. typical: images shown of each."""

    rows: list[Row]
    total: int
    images: int
    with_issues: dict[int, int]
    typical: int

    @property
    def image_ids(self) -> set[int]:
        return {i for row in self.rows for i in row["typical_ids"][: self.typical]}

    def shown(self, known: Mapping[int, Picture]) -> Topics | None:
        """With pictures; None where there are no topics."""
        topics = [
            Topic(
                row["topic_id"],
                row["images"],
                [known[i] for i in row["typical_ids"][: self.typical] if i in known],
                [(name["name"], name["images"]) for name in row["concepts"][:NAMES]],
                [(name["name"], name["images"]) for name in row["labels"][:NAMES]],
                self.with_issues.get(row["topic_id"], 0),
            )
            for row in self.rows
        ]
        return Topics(self.total, self.images, topics) if topics else None


def topic_rows(lake: Lake, count: int, typical: int) -> TopicRows:
    """The `count` largest topics with `typical` images of each."""
    summaries = lake.read("topic_summaries")
    rows = summaries.orderBy(F.desc("images"), "topic_id").limit(count).collect()
    if not rows:
        return TopicRows([], 0, 0, {}, typical)
    total = summaries.agg(F.count("*").alias("topics"), F.sum("images").alias("images")).collect()[0]
    shown = frame_of(lake.spark, [(row["topic_id"],) for row in rows], "topic_id int")
    members = lake.read("topics").select("image_id", "topic_id").join(small(shown), "topic_id")
    troubled = lake.read("issues").select("image_id").distinct()
    by_topic = members.join(troubled, "image_id", "left_semi").groupBy("topic_id").count().collect()
    with_issues = {row["topic_id"]: row["count"] for row in by_topic}
    return TopicRows(rows, total["topics"], total["images"], with_issues, typical)
