"""Catches what only a checkout can do: the wheel, the editable installation, packages for a Mac, what editors find."""

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jedi
import pytest
from packaging.requirements import Requirement

from tests.e2e import lakes
from tests.e2e.lakes import ROOT

UV = Path(sys.executable).with_name("uv")
SDIST_ONLY = {"pyspark-client", "pyspark", "antlr4-python3-runtime"}  # pure Python, built anywhere


@pytest.mark.skipif(not UV.exists(), reason="uv is not installed")
@pytest.mark.parametrize("extra", ["", "demo", "notebook", "emr", "torch", "spark", "test"])
def test_all_packages_install_on_a_mac(extra: str) -> None:
    wanted = [Requirement(text) for text in importlib.metadata.requires("imagesieve") or ()]
    mac = {"platform_machine": "arm64", "sys_platform": "darwin", "platform_system": "Darwin", "extra": extra}
    lines = []
    for one in wanted:
        if one.marker is None or one.marker.evaluate(mac):
            one.marker = None
            lines.append(str(one))
    but = [word for name in sorted(SDIST_ONLY) for word in ("--no-binary", name)]
    command = [
        str(UV), "pip", "compile", "--quiet", "--python-platform", "aarch64-apple-darwin", "--python-version", "3.11",
        "--only-binary", ":all:", *but, "-",
    ]  # fmt: skip
    ended = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "openvino" in ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the sources that git knows, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "jobs", "udfs", "emr", "conf", "setup.py", "pyproject.toml", "README.md", "LICENSE",
         ":!jobs/serve/app"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for file in filter(None, files):
        target = folder / "sources" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / file).read_bytes())
    subprocess.run(
        [str(UV), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(folder / "sources")], check=True
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _python(code: str, cwd: Path, **env: str) -> str:
    """What a Python of its own prints, started in a folder that holds no sources."""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=lakes.clean_environment(**env), capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


WHERE = """
import json, sys
import imagesieve, jobs, udfs, emr
files = {module.__name__: module.__file__ for module in (imagesieve, jobs, udfs, emr)}
heavy = sorted({"torch", "pyspark", "openvino"} & set(sys.modules))
kept = sorted(set(imagesieve.group([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0]], "medium").keeper.tolist()))
print(json.dumps({"files": files, "heavy": heavy, "kept": kept}))
"""


@pytest.mark.skipif(not UV.exists(), reason="uv is not installed")
def test_import_from_a_wheel(wheel: Path, tmp_path: Path) -> None:
    """Also catches a front door that takes seconds to open."""
    told = json.loads(_python(WHERE, tmp_path, PYTHONPATH=str(wheel)))
    assert all(Path(file).is_relative_to(wheel) for file in told["files"].values())
    assert told["heavy"] == []
    assert told["kept"] == [0, 2]


@pytest.mark.skipif(not UV.exists(), reason="uv is not installed")
def test_the_wheel_is_whole(wheel: Path, tmp_path: Path) -> None:
    """Catches a file that is needed at run time, and the wheel lacks; and a program that nobody can start."""
    files = {str(path.relative_to(wheel)) for path in wheel.rglob("*") if path.is_file()}
    kept = subprocess.run(
        ["git", "ls-files", "jobs", "udfs", "emr", "conf", ":!jobs/serve/app"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = {name.removeprefix("jobs/api/") for name in kept.stdout.split()}
    assert {name for name in wanted - files if not name.endswith((".md", ".yaml"))} == set()
    assert "conf/defaults.yaml" in files
    entry = next(wheel.glob("*.dist-info")) / "entry_points.txt"
    assert "imagesieve = imagesieve.__main__:script" in entry.read_text()
    folder = tmp_path / "pictures"
    folder.mkdir()
    code = "import sys; from imagesieve.__main__ import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, "run", str(folder)], cwd=tmp_path,
        env=lakes.clean_environment(PYTHONPATH=str(wheel)), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert "imagesieve: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_editable(tmp_path: Path) -> None:
    """Catches an installation of a checkout that finds the packages only from inside it."""
    told = json.loads(_python(WHERE, tmp_path))
    assert all(Path(file).is_relative_to(ROOT) for file in told["files"].values())


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("run", "jobs/api/imagesieve/running.py"),
        ("Lake", "jobs/api/imagesieve/tables.py"),
        ("group", "udfs/vectors/similarity.py"),
    ],
)
def test_go_to_definition(name: str, file: str) -> None:
    """Catches a package that editors do not find by the paths of pyproject.toml."""
    project = jedi.Project(ROOT, added_sys_path=[str(ROOT / "jobs" / "api")], smart_sys_path=False)
    code = f"import imagesieve\nimagesieve.{name}"
    found = jedi.Script(code, path=ROOT / "tests" / "none.py", project=project).goto(
        2, len("imagesieve.") + 1, follow_imports=True
    )
    assert [Path(str(one.module_path)) for one in found] == [ROOT / file]
