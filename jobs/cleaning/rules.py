"""The rules of the clean set: which images go and why, which label is corrected. Plans only; nothing is written.

First go images that are of no use by themselves (corrupted, dark, …). Then leaks: an image gives way to a duplicate in
a split that comes before its own. Then of each group of duplicates that is left, all but one. So an image never goes
for the sake of one that goes, too. The section `clean` of the settings holds the rules."""

from __future__ import annotations

import dataclasses
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import config, tables
from jobs.cleaning import rated, reviewed
from jobs.cleaning.reviewed import decided
from jobs.duplicates.copies import ascending, with_order
from jobs.engines.frames import keep
from jobs.findings.rows import unlike
from jobs.inputs.members import is_broken_shard
from jobs.lakes import Lake
from udfs.images.relation_names import SAME_PIXELS

GROUPED = (tables.EXACT_DUPLICATE, tables.NEAR_DUPLICATE, tables.LEAK)  # what goes depends on the other images
REMOVAL = ("image_id", "issue", "score", "evidence_id")


def judged(lake: Lake, rules: config.Clean) -> DataFrame:
    """All images with what becomes of them: the columns of `images`, and

    issue: for which it is removed, the first of them in the order of tables.ISSUES; null where it stays. issues: all of
    them, by a space. score: of `issue`. evidence_uri: the image for which it goes, or null. relation: to that one,
    where it is known. new_label: in place of label, or null; with label_score, confidence and label_evidence_uri.
    decided_by: the person who has decided that over all rules, or null. is_shard: a shard that could not be read whole;
    it is no image, and stands neither for nor against those in it."""
    images = lake.require("images")
    issues = lake.require("issues")
    decisions = keep(decided(lake))
    removed, relabelled = removals(lake, rules, decisions), corrections(lake, rules, decisions)
    order = F.find_in_set("issue", F.lit(",".join((*tables.ISSUES, rated.LOW_RATING))))
    first = F.min(F.struct(order.alias("order"), "score", "evidence_id", "issue"))
    why = removed.groupBy("image_id").agg(
        first.alias("first"), F.array_join(F.sort_array(F.collect_set("issue")), " ").alias("issues")
    )
    why = why.select("image_id", "first.issue", "first.score", "first.evidence_id", "issues")
    known = lake.require("duplicates").select("image_id", F.col("keeper_id").alias("evidence_id"), "relation")
    same = F.when(F.col("issue") == tables.EXACT_DUPLICATE, F.lit(SAME_PIXELS))
    why = why.join(known, ["image_id", "evidence_id"], "left").withColumn("relation", F.coalesce(same, "relation"))
    uri_of = images.select(F.col("image_id").alias("evidence_id"), F.col("uri").alias("evidence_uri"))
    why = why.join(uri_of, "evidence_id", "left").drop("evidence_id")
    evidence = issues.where(F.col("issue") == tables.WRONG_LABEL).select("image_id", "evidence_id")
    label_uri = uri_of.withColumnRenamed("evidence_uri", "label_evidence_uri")
    labelled = relabelled.join(evidence, "image_id", "left").join(label_uri, "evidence_id", "left").drop("evidence_id")
    is_shard = is_broken_shard()
    found = images.join(why, "image_id", "left").join(labelled, "image_id", "left").withColumn("is_shard", is_shard)
    people = decisions.where(F.col("decision") != tables.SKIP).select("image_id", "decided_by")
    found = found.join(people, "image_id", "left")
    stays = F.col("issue").isNull()
    columns = {name: F.when(stays, F.col(name)) for name in ("new_label", "label_score", "confidence")}
    return found.withColumns(columns).withColumn("label_evidence_uri", F.when(stays, F.col("label_evidence_uri")))


def corrected() -> dict[str, Column]:
    """label and labels as they are to be, of rows of judged: the one label that a person has decided takes
    the place of several."""
    new, several = F.col("new_label"), F.col("labels")
    return {
        "label": F.when(several.isNull(), F.coalesce(new, F.col("label"))),
        "labels": F.when(several.isNotNull() & new.isNotNull(), F.array(new)).otherwise(several),
    }


def without_common(lake: Lake, rules: config.Clean) -> tuple[config.Clean, dict[str, int]]:
    """The rules without issues that are too common by clean.max_share, and how many images have each of these."""
    own = [issue for issue in rules.remove if issue not in (*GROUPED, tables.CORRUPTED)]
    found = lake.require("issues").where(F.col("issue").isin(own))
    found = found.where(_counts(F.col("issue"), F.col("score"), rules))
    counts = {row["issue"]: int(row["count"]) for row in found.groupBy("issue").count().collect()}
    most = rules.max_share * lake.require("images").count() if counts else 0
    common = {issue: counts[issue] for issue in own if counts.get(issue, 0) > most}
    return dataclasses.replace(rules, remove=tuple(i for i in rules.remove if i not in common)), common


def removals(lake: Lake, rules: config.Clean, decisions: DataFrame) -> DataFrame:
    """REMOVAL, a row for each image that goes and issue for which it does. decisions: of reviewed.decided."""
    images, issues = lake.require("images"), lake.require("issues")
    direct = issues.where(F.col("issue").isin(*(issue for issue in rules.remove if issue not in GROUPED)))
    direct = direct.where(_counts(F.col("issue"), F.col("score"), rules)).select(*REMOVAL)
    if tables.WRONG_LABEL in rules.remove:
        corrected = corrections(lake, rules, decisions).select("image_id", F.lit(tables.WRONG_LABEL).alias("issue"))
        direct = direct.join(corrected, ["image_id", "issue"], "left_anti")
    if rules.never_from:
        free = images.where(~is_protected(F.col("split"), rules)).select("image_id")
        direct = direct.join(free, "image_id", "left_semi")
    stays = reviewed.kept(decisions)
    parts = [direct.join(stays, "image_id", "left_anti"), reviewed.removed(decisions)]
    gone = parts[0].select("image_id").unionByName(parts[1].select("image_id"))
    if tables.LEAK in rules.remove:
        parts.append(leaking(lake.read("leaks"), gone, rules).join(stays, "image_id", "left_anti"))
        gone = gone.unionByName(parts[-1].select("image_id"))
    if {tables.EXACT_DUPLICATE, tables.NEAR_DUPLICATE} & set(rules.remove):
        duplicates = lake.require("duplicates").join(gone, "image_id", "left_anti")
        parts.append(superfluous(duplicates, images, lake.require("features"), stays, rules))
    if rules.rating is not None:
        left = images.where(~is_protected(F.col("split"), rules)).select("image_id")
        for goes in (*parts, stays):
            left = left.join(goes.select("image_id").distinct(), "image_id", "left_anti")
        parts.append(rated.lower_rated(lake, rules, left))
    return reduce(DataFrame.unionByName, parts)


def leaking(leaks: DataFrame, gone: DataFrame, rules: config.Clean) -> DataFrame:
    """REMOVAL of images with a duplicate in a split that comes before theirs. leaks: the table. gone: (image_id) of
    images that go anyway: nobody gives way to them."""
    here, there = gives_way(F.col("here"), rules), gives_way(F.col("there"), rules)
    score = unlike(F.col("cosine"), F.col("agreement"))
    return (
        leaks.where((F.col("between") == "split") & ~is_protected(F.col("here"), rules) & (here > there))
        .where(_counts(F.lit(tables.LEAK), score, rules))
        .join(gone.select(F.col("image_id").alias("other_id")), "other_id", "left_anti")
        .select(
            "image_id", F.lit(tables.LEAK).alias("issue"), score.alias("score"), F.col("other_id").alias("evidence_id")
        )
    )


def superfluous(
    duplicates: DataFrame, images: DataFrame, features: DataFrame, people: DataFrame, rules: config.Clean
) -> DataFrame:
    """REMOVAL of all but one of each group of duplicates. duplicates, images, features: the tables. people: (image_id)
    of those that a person wants kept: none of them goes, and the first of them is the one for which the others go.

    Where only near-duplicates are removed, copies of the one that stays do so, too; where only copies are, each group
    of equal pixels keeps one. A group may be any share of the lake: the best is found by an aggregate."""
    members = with_order(
        duplicates.select("image_id", "keeper_id", "is_keeper", "kind", "cosine_to_keeper", "agreement")
        .join(features.select("image_id", "pixel_hash", "width", "height", "jpeg_quality"), "image_id")
        .join(images.select("image_id", "uri", "split", "size_bytes", "modified_at"), "image_id")
        .join(people.select("image_id", F.lit(True).alias("wanted")), "image_id", "left")
        .na.fill(False, ["wanted"])
    )
    distance = unlike(F.col("cosine_to_keeper"), F.col("agreement"))
    in_cluster = F.lit(tables.NEAR_DUPLICATE in rules.remove) & (
        F.col("is_keeper") | (F.col("kind") == "exact") | _counts(F.lit(tables.NEAR_DUPLICATE), distance, rules)
    )
    grouped = members.select(
        "*",
        distance.alias("distance"),
        F.when(in_cluster, F.col("keeper_id").cast("string")).otherwise(F.col("pixel_hash")).alias("group"),
        in_cluster.alias("in_cluster"),
    )
    order = [
        (~F.col("wanted")).alias("unwanted"),
        gives_way(F.col("split"), rules).alias("gives_way"),
        *_keep_order(rules.keep),
        *ascending(),
    ]
    stays = F.min(F.struct(*order, "image_id", "pixel_hash", "distance")).alias("stays")
    best = grouped.groupBy("group", "in_cluster").agg(stays).select("group", "in_cluster", "stays")
    is_copy = F.col("pixel_hash") == F.col("stays.pixel_hash")
    goes = F.col("image_id") != F.col("stays.image_id")
    if tables.EXACT_DUPLICATE not in rules.remove:
        goes = goes & ~is_copy
    return (
        grouped.join(best, ["group", "in_cluster"])
        .where(goes & ~F.col("wanted") & ~is_protected(F.col("split"), rules))
        .select(
            "image_id",
            F.when(is_copy, tables.EXACT_DUPLICATE).otherwise(tables.NEAR_DUPLICATE).alias("issue"),
            # Both are known by their cosine to the keeper only: the one that is further from it tells.
            F.when(is_copy, 0.0).otherwise(F.greatest("distance", "stays.distance")).alias("score"),
            F.col("stays.image_id").alias("evidence_id"),
        )
    )


def corrections(lake: Lake, rules: config.Clean, decisions: DataFrame) -> DataFrame:
    """(image_id, new_label, label_score, confidence) of images whose label is to be corrected. decisions: of
    reviewed.decided; they come before the rules."""
    issues, labels = lake.require("issues"), lake.read("labels")
    wrong = issues.where((F.col("issue") == tables.WRONG_LABEL) & F.col("suggested_label").isNotNull())
    wrong = wrong.where(_counts(F.col("issue"), F.col("score"), rules) & F.lit(rules.relabel))
    sure = labels.where(F.col("suggested_confidence") >= rules.min_confidence)
    if rules.never_from:
        images = lake.require("images")
        wrong = wrong.join(
            images.where(~is_protected(F.col("split"), rules)).select("image_id"), "image_id", "left_semi"
        )
    by_rule = wrong.join(sure.select("image_id", F.col("suggested_confidence").alias("confidence")), "image_id").select(
        "image_id", F.col("suggested_label").alias("new_label"), F.col("score").alias("label_score"), "confidence"
    )
    people = reviewed.kept(decisions)
    return by_rule.join(people, "image_id", "left_anti").unionByName(reviewed.relabelled(decisions))


def gives_way(split: Column, rules: config.Clean) -> Column:
    """The place of a split among those that duplicates lie in, as a struct: of the least, the image stays.

    Protected splits come first, then those of rules.leaks in any case of letters, others, and images without one."""
    last = len(rules.leaks) + 1
    place = F.when(split.isNull(), last + 1).when(is_protected(split, rules), 0)
    for number, name in enumerate(rules.leaks, start=1):
        place = place.when(F.lower(split) == name.lower(), number)
    return F.struct(place.otherwise(last).alias("place"), F.coalesce(split, F.lit("")).alias("split"))


def is_protected(split: Column, rules: config.Clean) -> Column:
    """Whether nothing may be taken from a split; an image without one is free."""
    return F.coalesce(split.isin(*rules.never_from), F.lit(False)) if rules.never_from else F.lit(False)


def _keep_order(keep: str) -> list[Column]:
    """What clean.keep asks before copies.BEST_FIRST, as values of which the least stays."""
    return {
        "best": [~F.col("is_keeper")],
        "oldest": [F.col("modified_at").isNull().alias("no_age"), F.col("modified_at").alias("age")],
        "largest": [-F.col("pixels"), F.col("size_bytes").isNull().alias("no_bytes"), -F.col("size_bytes")],
        "first": [F.col("uri").alias("first_uri")],
    }[keep]


def _counts(issue: Column, score: Column, rules: config.Clean) -> Column:
    """Whether a row of `issues` counts by clean.thresholds."""
    counts = F.lit(True)
    for name, threshold in rules.thresholds.items():
        if threshold is not None:
            counts = counts & ((issue != name) | (score < threshold))
    return counts
