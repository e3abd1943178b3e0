"""Jars for the nodes, fetched by the Ivy that pyspark brings."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

from jobs.errors import MachineError


def fetch(coordinates: str, target: Path) -> None:
    """Puts one jar at target, without what it depends on. coordinates: group:artifact:version in Maven Central.

    Ivy compares the jar with the checksum published beside it and keeps it in ~/.ivy2. Raises MachineError where Java
    is missing or the jar is not found."""
    java = shutil.which("java")
    if java is None:
        raise MachineError(f"no Java: {coordinates} cannot be fetched")
    try:
        ivy = sorted(Path(str(metadata.distribution("pyspark").locate_file("pyspark/jars"))).glob("ivy-*.jar"))
    except metadata.PackageNotFoundError:
        raise MachineError(f'{coordinates} is fetched by Spark\'s Ivy: pip install "imagesieve[spark]"') from None
    if not ivy:
        raise MachineError(f"no Ivy in pyspark: {coordinates} cannot be fetched")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [
            java, "-jar", str(ivy[-1]), "-confs", "default", "-notransitive", "-types", "jar",
            "-dependency", *coordinates.split(":"), "-retrieve", f"{folder}/[artifact].[ext]",
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list(Path(folder).glob("*.jar"))
        if ended.returncode or len(found) != 1:
            raise MachineError(f"{coordinates} cannot be fetched: check the network, or remove it from ~/.ivy2/cache")
        found[0].chmod(0o644)
        found[0].replace(target)
