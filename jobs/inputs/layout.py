"""Columns that are read from paths."""

from __future__ import annotations

import re

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import ConfigError


def layout_pattern(layout: str) -> tuple[str, list[str]]:
    """A regular expression for a layout such as {split}/{label}/*, and the columns of its groups.

    {name} stands for one level of the path, * for any text within a level, ** for any text, **/ for any number of
    levels, none too. Raises ConfigError for a name other than split, label, source and owner, or one given twice."""
    return _pattern("--layout", layout, ("split", "label", "source", "owner"))


def owner_pattern(pattern: str) -> str:
    """A regular expression for where a path names the owner, such as users/{owner}/**; {owner} once, which may share
    its level with other text. Raises ConfigError."""
    return _pattern("--owner", pattern, ("owner",))[0]


def _pattern(option: str, layout: str, known: tuple[str, ...]) -> tuple[str, list[str]]:
    names: list[str] = []
    listed = ", ".join(known)
    pattern = ""
    for part in re.split(r"(\{[^}]*\}|(?<![^/])\*\*/|\*\*|\*)", layout):
        if part == "**/":
            pattern += r"(?:[\s\S]*/)?"
        elif part == "**":
            pattern += r"[\s\S]*"
        elif part == "*":
            pattern += "[^/]*"
        elif part.startswith("{") and part.endswith("}"):
            name = part[1:-1]
            if name not in known or name in names:
                raise ConfigError(f"{option}: {{{name}}} must be one of {listed}, each once, got {layout!r}")
            names.append(name)
            pattern += "([^/]+)"
        else:
            pattern += re.escape(part)
    if not names:
        wanted = ", ".join(f"{{{name}}}" for name in known)
        raise ConfigError(f"{option}: must name {'at least one of ' if len(known) > 1 else ''}{wanted}, got {layout!r}")
    return f"^{pattern}$", names


def with_layout(listed: DataFrame, layout: str) -> DataFrame:
    """split, label, source and owner read from the relative path, where the path fits the layout. A label that is read
    so takes the place of several. listed: LISTED."""
    pattern, names = layout_pattern(layout)
    for group, name in enumerate(names, start=1):
        found = F.regexp_extract("relative", pattern, group)
        fits = found != ""
        if name == "label":
            listed = listed.withColumn("labels", F.when(~F.coalesce(fits, F.lit(False)), F.col("labels")))
        listed = listed.withColumn(name, F.when(fits, found).otherwise(F.col(name)))
    return listed


def with_owner(listed: DataFrame, pattern: str) -> DataFrame:
    """owner read from the relative path, where the path fits the pattern. listed: LISTED."""
    found = F.regexp_extract("relative", owner_pattern(pattern), 1)
    return listed.withColumn("owner", F.when(found != "", found).otherwise(F.col("owner")))
