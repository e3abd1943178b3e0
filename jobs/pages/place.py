"""Where the report goes."""

from __future__ import annotations

import os
from urllib.parse import quote

from jobs.errors import ConfigError
from jobs.stage import Asked, Option
from udfs.stores import uris

OPTION = Option("--report", {"metavar": "URI", "help": "where the report goes (default: LAKE/report)"})


def report_uri(asked: Asked) -> str:
    """The folder of the report as a canonical URI. Raises ConfigError."""
    given = getattr(asked.arguments, "report", None) or uris.join(asked.lake, "report")
    try:
        return uris.canonical(given, base=os.getcwd())  # noqa: PTH109 (a text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def index_of(report_uri: str) -> str:
    """The first page of a report, as a person can open it."""
    return uris.join(report_uri, "index.html")


def link_to(report_uri: str) -> str:
    """The first page as a link that a terminal opens."""
    page = index_of(report_uri)
    return page if uris.is_s3(page) else "file://" + quote(uris.local_path(page))
