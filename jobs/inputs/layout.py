"""Columns that are read from paths."""

from __future__ import annotations

import re

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import ConfigError


def layout_pattern(layout: str) -> tuple[str, list[str]]:
    """A regular expression for a layout such as {split}/{label}/*, and the columns of its groups.

    {name} stands for one level of the path, * for any text within a level, ** for any text.
    Raises ConfigError for a name other than split, label and source, or one given twice."""
    names: list[str] = []
    pattern = ""
    for part in re.split(r"(\{[^}]*\}|\*\*|\*)", layout):
        if part == "**":
            pattern += r"[\s\S]*"
        elif part == "*":
            pattern += "[^/]*"
        elif part.startswith("{") and part.endswith("}"):
            name = part[1:-1]
            if name not in ("split", "label", "source") or name in names:
                raise ConfigError(
                    f"--layout: {{{name}}} must be one of split, label, source, each once, got {layout!r}"
                )
            names.append(name)
            pattern += "([^/]+)"
        else:
            pattern += re.escape(part)
    if not names:
        raise ConfigError(f"--layout: must name at least one of {{split}}, {{label}}, {{source}}, got {layout!r}")
    return f"^{pattern}$", names


def with_layout(listed: DataFrame, layout: str) -> DataFrame:
    """split, label and source read from the relative path, where the path fits the layout. listed: LISTED."""
    pattern, names = layout_pattern(layout)
    for group, name in enumerate(names, start=1):
        found = F.regexp_extract("relative", pattern, group)
        listed = listed.withColumn(name, F.when(found != "", found).otherwise(F.col(name)))
    return listed
