"""`imagesieve emr package`: all that nodes need, in one folder, and its upload."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from emr.costs import hardware
from emr.packages import archive, jars, manifest
from jobs import __version__, config
from jobs.engines.spark_versions import JARS
from jobs.errors import ConfigError, MachineError
from udfs.networks import concepts, models, preparation, weight_files
from udfs.stores import uris

ROOT = Path(__file__).resolve().parents[2]
ZIP = "imagesieve.zip"
PACKAGES = ("jobs", "udfs", "conf", "emr")
ENDINGS = {".py", ".html", ".css", ".yaml", ".properties", ".npz", ".txt", ".typed", ".js", ".xz", ".jpg", ".sql"}
BUILT_FROM = "jobs/serve/app"  # the sources of a page, whose built files lie beside them
SCRIPTS = ("entry.py", "bootstrap.sh", "gpus.sh")
CONSTRAINTS = ROOT / "constraints.txt"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind", action="append", choices=hardware.EC2_KINDS, help="cpu or gpu; both where given twice (default: cpu)"
    )
    parser.add_argument("--spark", choices=sorted(JARS), help="of the nodes (default: 4.0 for cpu, 3.5 for gpu)")
    parser.add_argument("--out", default="build/package", metavar="FOLDER", help="where it goes (default: %(default)s)")
    parser.add_argument("--to", metavar="s3://BUCKET/PREFIX", help="upload it as PREFIX/imagesieve-VERSION")
    parser.add_argument("--replace", action="store_true", help="with --to: files of this version may change")
    parser.add_argument("--model", metavar="FILE", help="settings as YAML that name the model (default: ours)")
    parser.add_argument(
        "--node-python",
        default=archive.NODE_PYTHON,
        metavar="PATH",
        help=f"Python {archive.PYTHON} on the nodes (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Builds the package, uploads it where that is asked, and prints where it is. Raises RunError, ModelError."""
    if arguments.to is not None and not uris.is_s3(arguments.to):
        raise ConfigError(f"--to must be s3://BUCKET/PREFIX, got {arguments.to}")
    if arguments.replace and arguments.to is None:
        raise ConfigError("--replace goes with --to")
    archive.check_node_python(arguments.node_python)
    kinds = tuple(dict.fromkeys(arguments.kind or ("cpu",)))
    settings = config.load((arguments.model,) if arguments.model else ())
    model = models.find(settings.embed.model, settings.models)
    clusters = hardware.load().kinds
    sparks = {kind: arguments.spark or clusters[kind].spark for kind in kinds}
    folder = Path(arguments.out)
    try:
        build(folder, sparks, model, arguments.node_python)
    except OSError as error:
        raise MachineError(f"{error.filename or folder}: {error.strerror or error}") from error
    target = str(folder)
    if arguments.to is not None:
        from emr.packages import upload

        target = upload.upload(folder, arguments.to, arguments.replace)
    sys.stdout.write(f"{target}\n")
    return 0


def build(folder: Path, sparks: dict[str, str], model: models.Model, node_python: str) -> None:
    """Writes a package of the checkout. sparks: the version of Spark of each kind. Raises MachineError where a tool or
    a package is missing, ConfigError where the CPU environment grows too large, ModelError."""
    if not CONSTRAINTS.is_file():
        raise MachineError(f"{CONSTRAINTS} is missing: packages are built in a checkout of imagesieve")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.NAME).unlink(missing_ok=True)  # until all is there again
    names = [ZIP, *SCRIPTS]
    build_zip(folder / ZIP)
    for script in SCRIPTS:
        shutil.copyfile(ROOT / "emr" / script, folder / script)
    environments = {}
    for kind, spark in sparks.items():
        made = manifest.Environment(
            spark, f"environment-{kind}-spark{spark}.tar.gz", f"models-{kind}.tar.gz", f"graphframes-spark{spark}.jar"
        )
        _say(f"{kind}: the packages for Spark {spark}")
        openvino = build_environment(folder / made.file, kind, spark, node_python)
        _say(f"{kind}: {model.key}")
        pack_model(folder / made.models, kind, model, openvino)
        if made.graphframes not in names:
            jars.fetch(JARS[spark].graphframes, folder / made.graphframes)
        names += [made.file, made.models, made.graphframes]
        environments[kind] = made
    files = {name: manifest.File(archive.sha256(folder / name), (folder / name).stat().st_size) for name in names}
    manifest.write(manifest.Package(uris.canonical(str(folder)), __version__, archive.PYTHON, files, environments))


def build_zip(target: Path, root: Path = ROOT) -> int:
    """Writes PACKAGES of a checkout for --py-files, the same bytes for the same sources, and returns the number of
    files. A wheel would not do: executors cannot import from one."""
    found = (file for package in PACKAGES for file in (root / package).rglob("*") if file.suffix in ENDINGS)
    files = sorted(file for file in found if root / BUILT_FROM not in file.parents)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, file.read_bytes())
    return len(files)


def build_environment(target: Path, kind: str, spark: str, node_python: str) -> str:
    """Writes an environment and returns its version of OpenVINO. Raises MachineError, ConfigError."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".packages-") as temporary:
        site = Path(temporary)
        archive.install(site, kind, spark, CONSTRAINTS)
        archive.build(target, site, node_python)
        openvino = archive.version_of(site, "openvino")
    size = target.stat().st_size
    if kind == "cpu" and size > archive.MAX_CPU_BYTES:
        raise ConfigError(f"{target} has {size} bytes, more than the {archive.MAX_CPU_BYTES} that a CPU node may load")
    return openvino


def pack_model(target: Path, kind: str, model: models.Model, openvino: str) -> None:
    """Writes what goes into the folder IMAGESIEVE_CACHE of a driver: the network for OpenVINO (cpu), or its weights
    where no package carries them (gpu), and its classifier. openvino: the version of the environment.

    Raises MachineError where this machine's OpenVINO is another, for whose files the nodes would not look."""
    own = importlib.metadata.version("openvino")
    if kind == "cpu" and own != openvino:
        raise MachineError(f"OpenVINO {own} is installed, the environment has {openvino}: install constraints.txt")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".model-") as temporary:
        cache = Path(temporary)
        if kind == "gpu" and model.package:
            weight_files.weights_file(model, cache)  # which the nodes have; this machine needs no torch
        else:
            preparation.prepare(model, cache, "openvino" if kind == "cpu" else "torch")
        concepts.prepare(model, cache)
        archive.pack(target, dict(archive.files_below(cache)))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
