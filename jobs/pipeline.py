"""Pipeline: all stages in order, and the summary that a run ends with."""

from __future__ import annotations

import sys
import threading
import time

from pyspark.sql import functions as F

from jobs import catalog, clean, clusters, content, embed, issues, labels, neighbours, report
from jobs.albums import stage as albums
from jobs.indexing import stage as index
from jobs.mapping import map as image_map
from jobs.pages import place, render
from jobs.progress import say
from jobs.rating import stage as ratings
from jobs.stage import Context, StageResult, submitted
from jobs.tables import ISSUES
from udfs.vectors import components

RUN = "run"

# In the order in which a run takes them.
STAGES = (
    catalog.STAGE,
    embed.STAGE,
    neighbours.STAGE,
    clusters.STAGE,
    labels.STAGE,
    content.STAGE,
    image_map.STAGE,
    index.STAGE,
    issues.STAGE,
    ratings.STAGE,
    albums.STAGE,
    report.STAGE,
)
NAMES = tuple(stage.name for stage in STAGES)
# Every command and what it runs. Nothing of `clean` is part of a run.
COMMANDS = {RUN: STAGES, **{stage.name: (stage,) for stage in (*STAGES, clean.STAGE)}}
TEXTS = {
    RUN: "all stages, from images to the report",
    **{name: one[0].does for name, one in COMMANDS.items() if name != RUN},
}
_SUMMED_UP = (RUN, issues.STAGE.name, report.STAGE.name)  # commands after which the tables of the summary are whole


def run_stages(context: Context, command: str) -> None:
    """Runs the stages of a command, and prints the summary where the tables are whole."""
    started = time.monotonic()
    results = []
    for stage in COMMANDS[command]:
        if command == RUN and stage is embed.STAGE and _has_news(context):
            threading.Thread(target=_prepare, daemon=True, name="prepare").start()
        results.append(stage.run(context))
    if command in _SUMMED_UP:
        for line in summary(context, results, time.monotonic() - started):
            say(line)


def _has_news(context: Context) -> bool:
    last = context.history.last_done(embed.JOB)
    return last is None or last["inputs"] != {"images": context.lake.version("images")}


def _prepare() -> None:
    """What the driver's own work begins with, while the workers read images and it waits for them."""
    components.prepare()
    render.compile_templates()


def summary(context: Context, results: list[StageResult], seconds: float) -> list[str]:
    """What was found, in lines for a person: counts by kind, what to do, where everything lies."""
    lake = context.lake
    images = lake.read("images").count()
    failed = {r["error"]: r["count"] for r in lake.read("failures").groupBy("error").count().orderBy("error").collect()}
    found = {
        row["issue"]: (row["images"], row["removable"])
        for row in lake.read("issues")
        .groupBy("issue")
        .agg(F.count("*").alias("images"), F.count_if(F.col("suggestion") == "remove").alias("removable"))
        .collect()
    }
    removable = lake.read("issues").where("suggestion = 'remove'").select("image_id").distinct().count()
    read = next(
        (result.counts.get("read", 0) for result in results if result.job == embed.JOB and not result.skipped), 0
    )
    lines = [f"{images:,} images, {read:,} read in this run, {seconds:.0f} s"]
    if failed:
        lines.append(
            f"  {sum(failed.values()):,} failed: " + ", ".join(f"{n:,} {error}" for error, n in failed.items())
        )
    width = max(len(issue) for issue in ISSUES)
    for issue in ISSUES:
        count, _ = found.get(issue, (0, 0))
        if count:
            lines.append(f"  {issue.replace('_', ' '):<{width}} {count:>9,}  {count / max(images, 1):6.1%}")
    if not found:
        lines.append("  nothing found")
    lines += [f"note: {note}" for note in notes(context)]
    if removable:
        lines.append(f"{removable:,} images could be removed: those with suggestion = 'remove' in the table issues")
    leaks = found.get("leak", (0, 0))[0]
    if leaks:
        lines.append(f"{leaks:,} images have a duplicate in another split: a test on them measures memory")
    lines.append(f"tables: {lake.uri}")
    if any(result.job == report.JOB for result in results):
        lines.append(f"report: {place.link_to(context.given[report.JOB])}")
    return lines


def notes(context: Context) -> list[str]:
    """What the last runs of the stages have to say to a person, in the order of the stages."""
    last = [context.history.last_done(name) for name in NAMES]
    return [note for done in last if done for note in done["counts"].get("notes", ())]


if __name__ == "__main__":
    sys.exit(submitted(RUN))
