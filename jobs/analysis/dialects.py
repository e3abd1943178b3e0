"""Makes athena.sql and redshift.sql of views.sql; a test compares them. It needs the package sqlglot.

python -m jobs.analysis.dialects"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jobs.analysis.views import FILES, SCHEMA, views
from jobs.tables import TABLES

HEAD = "-- Made of views.sql by `python -m jobs.analysis.dialects`; a test compares it with that.\n\n"


def text(engine: str) -> str:
    """The file of an engine. Its views bind late in Redshift, as those over external tables must, and name schemas."""
    made = []
    for statement in views().values():
        parsed = _parsed(statement, "duckdb")
        if engine == "redshift":
            parsed = _qualified(parsed)
        late = "\nWITH NO SCHEMA BINDING" if engine == "redshift" else ""
        made.append(f"{parsed.sql(dialect=engine, pretty=True)}{late};\n")
    return HEAD + "\n".join(made)


def _parsed(statement: str, dialect: str) -> Any:
    import sqlglot

    return sqlglot.parse_one(statement, read=dialect)


def _qualified(parsed: Any) -> Any:
    """The statement with the schema before the tables of a lake; the view itself goes to `public`."""
    from sqlglot import exp

    for table in parsed.find_all(exp.Table):
        if table.name in TABLES:
            table.set("db", exp.to_identifier(SCHEMA))
        elif table.find_ancestor(exp.Create) is not None and table is parsed.this:
            table.set("db", exp.to_identifier("public"))
    return parsed


def main() -> int:
    for engine in ("athena", "redshift"):
        (Path(__file__).parent / FILES[engine]).write_text(text(engine), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
