"""Images on which the decoder itself fails, in real processes: one that dies of some bytes and hangs on others."""

from pathlib import Path

import pytest

from tests.conftest import MASTER
from tests.e2e import images, lakes
from tests.e2e.lakes import ROOT

CRASH, HANG = b"crash the decoder", b"hang the decoder"
# Stands in front of the real package on the path, and changes one function of it.
DECODER = f"""
import importlib.machinery, importlib.util, os, signal, sys, time
here = os.path.dirname(__file__)
spec = importlib.machinery.PathFinder.find_spec("simplejpeg", [p for p in sys.path if os.path.abspath(p) != here])
real = importlib.util.module_from_spec(spec)
sys.modules["simplejpeg"] = real
spec.loader.exec_module(real)
decode = real.decode_jpeg
def decode_jpeg(data, *args, **more):
    if {CRASH!r} in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if {HANG!r} in data:
        time.sleep(3600)
    return decode(data, *args, **more)
real.decode_jpeg = decode_jpeg
"""


@pytest.mark.slow
def test_a_crash_and_a_hang_cost_one_image_each(tmp_path: Path) -> None:
    """A native crash that ends the task and with it the run; a decoder that never returns; images that go with them."""
    good = {f"{number:02d}.jpg": images.jpeg(images.picture(number)) for number in range(40)}
    bad = {f"{number:02d}-{kind}.jpg": images.jpeg(images.picture(100 + number)) + tail
           for number, kind, tail in ((3, "crash", CRASH), (20, "hang", HANG), (39, "crash", CRASH))}  # fmt: skip
    folder = images.write(tmp_path / "in", {**good, **bad})
    images.write(tmp_path / "path", {"simplejpeg.py": DECODER.encode()})
    lake = tmp_path / "lake"
    ended = lakes.process(
        "run", folder, "--lake", lake, "--set", "embed.decode_timeout_s=1", *MASTER,
        cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path / 'path'}:{ROOT}"},
    )  # fmt: skip
    assert ended.code == 0, ended.err
    names = {row["image_id"]: Path(row["uri"]).name for row in lakes.rows(lake, "images")}
    assert {names[row["image_id"]] for row in lakes.rows(lake, "embeddings")} == set(good)
    failures = {names[row["image_id"]]: (row["error"], row["detail"]) for row in lakes.rows(lake, "failures")}
    assert {name: error for name, (error, _) in failures.items()} == dict.fromkeys(bad, "crashed")
    assert failures["03-crash.jpg"][1].startswith("killed by SIGSEGV")
    assert failures["20-hang.jpg"][1] == "it did not end within 1 s"
    issues = {names[row["image_id"]]: row["issue"] for row in lakes.rows(lake, "issues") if row["issue"] == "unread"}
    assert set(issues) == set(bad)
