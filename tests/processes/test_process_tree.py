"""The measuring of CPU time and memory, the images that it is done on, and what is made of the figures of the peers."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench import many, peers, process_tree

BURN = "import time\nwhile time.process_time() < {}: pass\n"


def python(text: str) -> list[str]:
    return [sys.executable, "-I", "-c", text]


def test_an_orphan_counts() -> None:
    """Would catch CPU time of a grandchild that outlives its parent, and the command itself, not being counted."""
    burning = (
        "import os, time\n"
        "if os.fork() == 0:\n"  # the child
        "    os.setsid()\n"
        "    parent = os.getpid()\n"
        "    if os.fork() == 0:\n"  # the grandchild
        "        while os.getppid() == parent: time.sleep(0.01)\n"  # it is alone from now on
        "        while time.process_time() < 0.5: pass\n"
        "    os._exit(0)\n"
    )
    measured = process_tree.run(python(burning))
    assert measured.returncode == 0
    assert 0.5 <= measured.cpu_s < 1.0
    assert measured.cpu_s == pytest.approx(measured.user_s + measured.system_s)
    assert measured.killed == 0


def test_a_child_that_nobody_waits_for_counts() -> None:
    """Would catch the time of Spark's Python workers being lost: their daemon ignores the signal of their end."""
    burning = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "here, there = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.8: pass\n"
        "    os._exit(0)\n"
        "os.close(there)\n"
        "os.read(here, 1)\n"  # until the child has ended
        "time.sleep(1)\n"  # until the supervisor has looked again
    )
    measured = process_tree.run(python(burning))
    assert 0.6 <= measured.cpu_s < 1.1
    assert measured.unreaped_s >= 0.6


def test_the_supervisor_and_other_children_do_not_count() -> None:
    """Would catch counting what other children of this process used, or the measuring itself."""
    subprocess.run(python(BURN.format(0.3)), check=True)
    assert process_tree.run(["sleep", "0.5"]).cpu_s < 0.05


def test_what_the_command_says() -> None:
    """Would catch a lost exit code, signal, stream, environment or folder."""
    text = "import os, sys; print(os.environ['WHO'], os.getcwd()); sys.stderr.write('no'); sys.exit(3)"
    measured = process_tree.run(python(text), env={"WHO": "me"}, cwd=Path("/"))
    assert (measured.returncode, measured.out, measured.err) == (3, "me /\n", "no")
    assert process_tree.run(python("import os; os.kill(os.getpid(), 9)")).returncode == -9


def test_a_command_that_is_not_there() -> None:
    """Would catch a mistyped command that counts as one which used nothing."""
    with pytest.raises(OSError, match="no-such-command"):
        process_tree.run(["no-such-command"])


def test_peak_memory_by_name(tmp_path: Path) -> None:
    """Would catch the peak of a grandchild being lost, or given as that of its parent."""
    (tmp_path / "large.py").write_text("import time\nx = b'1' * 200_000_000\ntime.sleep(0.8)\n", encoding="utf-8")
    command = [sys.executable, "-I", str(tmp_path / "large.py")]
    peaks = process_tree.run(python(f"import subprocess; subprocess.run({command!r})")).peak_mb
    assert 200 <= peaks["large.py"] < 260
    assert max(size for name, size in peaks.items() if name != "large.py") < 100


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/java", "-cp", "x"], "java"),
        (["/venv/bin/python3", "-m", "pyspark.daemon", "pyspark.worker"], "pyspark.daemon"),
        (["python", "-u", "/a/b.py", "-m", "c"], "b.py"),
        (["python3.11", "-c", "from multiprocessing.spawn import spawn_main"], "multiprocessing"),
        (["python", "-c", "pass"], "python -c"),
        (["python"], "python"),
    ],
)
def test_names(command: list[str], name: str) -> None:
    """Would catch all Python processes in one heap."""
    assert process_tree.process_name(command) == name


def test_what_stays_is_killed() -> None:
    """Would catch a daemon that keeps the measurement from ending, or one left behind."""
    text = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid)"
    measured = process_tree.run(python(text), grace_s=0.2)
    assert measured.killed == 1
    assert not Path("/proc", measured.out.strip()).exists()


def test_a_timeout_leaves_nothing_behind(tmp_path: Path) -> None:
    """Would catch processes that go on after the measurement gave up."""
    note = tmp_path / "pid"
    text = (
        "import subprocess, pathlib\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process_tree.run(python(text), timeout_s=2.0)
    deadline = time.monotonic() + 2
    while Path("/proc", note.read_text()).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path("/proc", note.read_text()).exists()


def test_nothing_goes_on_when_the_measuring_process_is_killed(tmp_path: Path) -> None:
    """Would catch a benchmark that was killed and still burns CPU under the next one."""
    note = tmp_path / "pid"
    inner = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    outer = f"from tests.bench import process_tree as p; p.run([{sys.executable!r}, '-c', {inner!r}])"
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", outer], cwd=root) as measuring:
        deadline = time.monotonic() + 20
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        measuring.kill()
    while Path("/proc", note.read_text()).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path("/proc", note.read_text()).exists()


def test_many_images(tmp_path: Path) -> None:
    """Would catch equal files, more of them in a folder than promised, or another content the second time."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("b.JPEG", "a.jpg", "c.png"):
        (photos / name).write_bytes(b"\xff\xd8" + name.encode() + b"\xff\xd9")
    made = many.make(photos, tmp_path / "one", 2001)
    contents = [path.read_bytes() for path in made]
    assert len(set(contents)) == len(set(made)) == 2001
    assert contents[0].startswith((photos / "a.jpg").read_bytes())
    assert contents[1].startswith((photos / "b.JPEG").read_bytes())
    assert sorted(len(list(folder.iterdir())) for folder in (tmp_path / "one").iterdir()) == [1, 1000, 1000]
    again = many.make(photos, tmp_path / "two", 2001)
    assert [path.relative_to(tmp_path / "two") for path in again] == [p.relative_to(tmp_path / "one") for p in made]
    assert [path.read_bytes() for path in again] == contents


def test_many_images_in_a_wrong_place(tmp_path: Path) -> None:
    """Would catch images of an earlier run among those of this one, and an empty folder taken for photographs."""
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(FileExistsError):
        many.make(tmp_path, tmp_path, 1)
    with pytest.raises(ValueError, match="no JPEG"):
        many.make(tmp_path, tmp_path / "new", 1)


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("print('1 of them'); print(20)", None),
        ("print(19)", "it was given 20 images, and at last said: 19"),
        ("pass", "it was given 20 images, and at last said: nothing"),
        ("import sys; sys.stderr.write('first\\n'); raise OSError('no network')", "exit code 1: OSError: no network"),
        (f"import sys; sys.exit({peers.NO_WEIGHTS!r} + ' (x)')", f"{peers.NO_WEIGHTS} (x)"),
    ],
)
def test_a_peer_that_fails_says_why(tmp_path: Path, source: str, outcome: str | None) -> None:
    """Would catch a peer that broke, or left images out, counted as a fast one."""
    program = peers.peer_program(Path(sys.executable), source, {})
    if outcome is None:
        assert program(tmp_path, 20, tmp_path).cpu_s > 0
        return
    with pytest.raises(peers.NotMeasuredError) as caught:
        program(tmp_path, 20, tmp_path)
    assert str(caught.value) == outcome


def test_the_slope_leaves_out_the_start(tmp_path: Path) -> None:
    """Would catch the start of a program in its slope, or the images for warming up in its figures."""

    def program(images: Path, count: int, work: Path) -> process_tree.Measured:
        assert images == folders[count]
        assert not list(work.iterdir())
        (work / "left").touch()
        return process_tree.Measured(5 + count * 0.01, 0, 0, 0, 1, {"a": 10.0, "b": 20.0}, 0, 0, "", "")

    folders = {count: tmp_path / str(count) for count in (40, 2000, 8000)}
    found = peers.measure(program, folders, tmp_path)
    assert found["cpu_ms_per_image"] == 10.0
    assert found["cpu_s"] == {"2000": 25.0, "8000": 85.0}
    assert found["peak_mb_of_one_process"] == {"2000": 20.0, "8000": 20.0}


def test_a_failure_is_in_the_figures(tmp_path: Path) -> None:
    """Would catch one failing peer ending the whole measurement."""

    def program(images: Path, count: int, work: Path) -> process_tree.Measured:
        raise peers.NotMeasuredError("it is broken")

    folders = {count: tmp_path / str(count) for count in (40, 2000, 8000)}
    assert peers.measure(program, folders, tmp_path) == {"failed": "it is broken"}


def test_ratios() -> None:
    """Would catch a ratio upside down, or one with what was not measured."""
    ours: dict[str, dict[str, object]] = {
        "embed_stage": {"cpu_ms_per_image": 4.0},
        "whole_run": {"failed": "why"},
        "noise": {"cpu_ms_per_image": -1.0},
    }
    found = peers.ratios({"cpu_ms_per_image": 10.0}, ours)
    assert found == {"embed_stage": 2.5, "whole_run": None, "noise": None}
