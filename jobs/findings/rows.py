"""The rows of the table `issues`, whatever finds them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.tables import TABLES


def unlike(cosine: Column, agreement: Column | None = None) -> Column:
    """The score of a pair of duplicates in [0, 1]: one minus their cosine, or minus the product of it and of how well
    their detail agrees by the second look, where they were looked at. The network takes much of one kind for one
    picture, and the pixels much that is plain: what both say is alike is the surest."""
    alike = cosine if agreement is None else cosine * F.greatest(F.lit(0.0), agreement)
    return F.round(F.greatest(F.lit(0.0), F.least(F.lit(1.0), 1 - alike)), 6)


def issue_rows(rows: DataFrame, suggestion: str) -> DataFrame:
    """Rows of `issues`. rows: (image_id, issue, score) and any other of its columns; what is missing is null."""
    schema = TABLES["issues"].schema
    missing = {f.name: F.lit(None).cast(f.dataType) for f in schema if f.name not in (*rows.columns, "suggestion")}
    return rows.withColumns({**missing, "suggestion": F.lit(suggestion), "score": F.round("score", 6)}).select(
        *schema.names
    )
