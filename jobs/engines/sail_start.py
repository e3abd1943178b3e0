"""How the embedded engine starts, and where it cannot."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from jobs.engines.sail_server import Server
from jobs.errors import LakeError, MachineError
from udfs.stores import s3, uris


def launch(uses_s3: bool) -> Server:
    """Starts the server and returns at once. Raises MachineError where Sail is missing, or its client another's."""
    check_installed()
    return Server(_s3_environment() if uses_s3 else {}, usable_cores())


def usable_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_installed() -> None:
    """Raises MachineError where pysail, delta-rs or the client of Spark 4 is missing."""
    import importlib.metadata

    found: dict[str, str] = {}
    for name in ("pysail", "deltalake", "pyspark-client", "pyspark"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    missing = [name for name in ("pysail", "deltalake") if name not in found]
    if missing:
        raise MachineError(f"the embedded engine needs {' and '.join(missing)}: pip install imagesieve again")
    clients = {found[name] for name in ("pyspark-client", "pyspark") if name in found}
    if not clients:
        raise MachineError("the embedded engine needs pyspark-client: pip install imagesieve again")
    if len(clients) > 1:
        told = f"pyspark {found['pyspark']} and pyspark-client {found['pyspark-client']} share their files"
        raise MachineError(f"{told}: install both of one version")
    if not next(iter(clients)).startswith("4."):
        raise MachineError(
            f"the embedded engine speaks to the client of Spark 4, not {next(iter(clients))}: --set spark.engine=spark"
        )


def check_lake(uri: str) -> None:
    """Raises LakeError where delta-rs or Sail cannot write a lake of that name; asked before anything is written."""
    odd = re.search(r"[%\\\x00-\x1f\x7f#?*\[\]{}^`]" if uris.is_s3(uri) else r"[%\\\x00-\x1f\x7f]", uri)
    if odd or not (uri.startswith("/") or uris.is_s3(uri)):
        what = repr(odd[0]) if odd else "bytes that are no UTF-8"
        raise LakeError(
            f"{uri}: the embedded engine cannot write to a path with {what} in it: name another --lake, or "
            "--set spark.engine=spark"
        )


def _s3_environment() -> dict[str, str]:
    """What Sail finds S3 by, from the same places as all else. Credentials that renew themselves (a role's) are left to
    it; others are handed over as they are now."""
    try:
        return {f"AWS_{name.upper()}": value for name, value in s3.object_store_settings().items()}
    except s3.StoreError:  # said by whoever looks at the lake and the inputs, with the URI
        return {}
