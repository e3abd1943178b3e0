"""udfs.images.decode against Pillow's own full decoding, on pictures made from a seed."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from udfs import errors
from udfs.errors import ImageError
from udfs.images.decode import Decoded, decode, sniff

Pixels = NDArray[np.uint8]
LIMIT = 10_000_000


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with an asymmetry that shows every rotation and reflection."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 225, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 0, 0), (0, 0, width // 3, height // 5))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heif(image: Image.Image) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=90)
    return buffer.getvalue()


def code_of(data: bytes, min_side: int = 224, max_pixels: int = LIMIT) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, min_side, max_pixels)
    return caught.value.code


def outcome(data: bytes) -> Decoded | str:
    """The picture or the error code; no other exception, and no address in a message, as it differs from run to run."""
    try:
        return decode(data, 224, LIMIT)
    except ImageError as error:
        if " at 0x" in error.detail:
            raise ValueError(error.detail) from error
        return error.code


def assert_close(got: Pixels, want: Image.Image, mean: float) -> None:
    expected = np.asarray(want.convert("RGB"), np.int16)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() <= mean


def assert_sound(got: Decoded) -> None:
    assert got.pixels.dtype == np.uint8
    assert got.pixels.ndim == 3
    assert got.pixels.shape[2] == 3
    assert got.pixels.flags.c_contiguous


ENCODERS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda i: encoded(i, "JPEG", quality=95),
    "png": lambda i: encoded(i, "PNG"),
    "webp": lambda i: encoded(i, "WEBP", lossless=True),
    "gif": lambda i: encoded(i, "GIF"),
    "bmp": lambda i: encoded(i, "BMP"),
    "tiff": lambda i: encoded(i, "TIFF", compression="tiff_lzw"),
    "avif": lambda i: encoded(i, "AVIF", quality=95, speed=9),
    "heif": heif,
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_format_gives_the_picture(kind: str) -> None:
    image = picture(150, 100)
    got = decode(ENCODERS[kind](image), 224, LIMIT)
    assert_sound(got)
    assert (got.width, got.height, got.format) == (150, 100, kind)
    assert_close(got.pixels, image, {"png": 0, "webp": 0, "bmp": 0, "tiff": 0}.get(kind, 6))


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("size", [(500, 333), (1000, 1100), (64, 900)])
def test_reduced_to_the_smallest_cheap_scale(kind: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    got = decode(ENCODERS[kind](image), 100, LIMIT)
    assert_sound(got)
    height, width = got.pixels.shape[:2]
    assert (got.width, got.height) == size
    assert min(width, height) >= min(100, *size)
    assert min(width, height) < 200
    assert width <= size[0]
    assert height <= size[1]
    assert_close(got.pixels, image.resize((width, height), Image.Resampling.BOX), 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    image = picture(120, 80)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"speed": 9} if kind == "AVIF" else {}
    data = encoded(image, kind, exif=exif, **options)
    stored = image.copy()
    stored.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(stored)
    got = decode(data, 224, LIMIT)
    assert_sound(got)
    assert (got.width, got.height) == upright.size
    assert_close(got.pixels, upright, 4)


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"garbage", b"II*\0\x08\0\0\0\xff\xff" + bytes(20), b"MM\0*\0\0\0\x08\0\x01\x01\x12"]
)
def test_a_broken_exif_block_does_not_cost_the_picture(block: bytes) -> None:
    plain = encoded(picture(40, 30), "JPEG")
    body = b"Exif\0\0" + block
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert np.array_equal(decode(data, 224, LIMIT).pixels, decode(plain, 224, LIMIT).pixels)


@pytest.mark.parametrize("options", [{"subsampling": s, "progressive": p} for s in (0, 1, 2) for p in (False, True)])
def test_jpeg_variants(options: dict[str, object]) -> None:
    data = encoded(picture(90, 60), "JPEG", quality=90, **options)
    assert_close(decode(data, 224, LIMIT).pixels, Image.open(io.BytesIO(data)), 1)


def test_gray_and_cmyk_jpeg_as_pillow_shows_them() -> None:
    # An Adobe CMYK file stores inverted inks: taken as they are, white turns black.
    for mode in ("L", "CMYK"):
        data = encoded(picture(300, 200).convert(mode), "JPEG", quality=95)
        assert_close(decode(data, 224, LIMIT).pixels, Image.open(io.BytesIO(data)), 0.5)
    white = encoded(Image.new("RGB", (20, 20), "white").convert("CMYK"), "JPEG")
    assert decode(white, 224, LIMIT).pixels.min() == 255


def test_ycck_jpeg() -> None:
    data = bytearray(encoded(Image.new("CMYK", (32, 32), (200, 40, 90, 10)), "JPEG", quality=95))
    at = data.find(b"Adobe")
    data[at + 11] = 2  # the four planes now mean YCCK
    assert_close(decode(bytes(data), 224, LIMIT).pixels, Image.open(io.BytesIO(bytes(data))), 0.5)


def test_subsampling_that_turbojpeg_does_not_know() -> None:
    data = bytearray(encoded(picture(64, 64), "JPEG", subsampling=0))
    data[data.find(b"\xff\xc0") + 11] = 0x31  # luma 3 x 1: Pillow gets it, and finds that the scan is too short for it
    got = outcome(bytes(data))
    assert isinstance(got, Decoded) or got in (errors.TRUNCATED, errors.CORRUPT)


def test_alpha_is_composited_onto_white() -> None:
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    half = Image.new("LA", (10, 10), (0, 128))
    palette = Image.new("P", (10, 10), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert decode(encoded(clear, "PNG"), 224, LIMIT).pixels.min() == 255
    assert decode(encoded(half, "PNG"), 224, LIMIT).pixels[0, 0].tolist() == [127, 127, 127]
    assert decode(encoded(palette, "PNG", transparency=1), 224, LIMIT).pixels.min() == 255
    assert decode(encoded(palette, "PNG"), 224, LIMIT).pixels[0, 0].tolist() == [0, 0, 255]
    assert decode(encoded(clear, "WEBP", lossless=True), 224, LIMIT).pixels.min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    ramp = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    got = decode(encoded(Image.fromarray(ramp), kind), 224, LIMIT).pixels
    assert np.array_equal(got[..., 0], (ramp >> 8).astype(np.uint8))


def test_one_bit_gray_and_cmyk_tiff() -> None:
    bits = Image.fromarray(np.indices((8, 8)).sum(0) % 2 == 0)
    assert decode(encoded(bits, "PNG"), 224, LIMIT).pixels[0, :2, 0].tolist() == [255, 0]
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert decode(encoded(cmyk, "TIFF"), 224, LIMIT).pixels[0, 0].tolist() == [255, 0, 0]


def test_floats_are_scaled_by_their_range() -> None:
    """A depth map that is black all over, and two of them that have one hash."""
    ramp = np.linspace(-2.0, 3.0, 64, dtype=np.float32).reshape(8, 8)
    ramp[0, 0] = np.nan
    got = decode(encoded(Image.fromarray(ramp), "TIFF"), 224, LIMIT)
    assert got.pixels[0, 1, 0] < 5
    assert got.pixels[7, 7, 0] == 255
    assert got.more != decode(encoded(Image.fromarray(ramp * 2), "TIFF"), 224, LIMIT).more


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_that_begins_with_nothing(kind: str) -> None:
    """All animations that fade in are one picture."""
    drawn = [Image.new("RGB", (20, 10), "white") for _ in range(2)]
    drawn[0].paste("red", (0, 0, 9, 9))
    drawn[1].paste("blue", (0, 0, 5, 9))
    options = {"lossless": True} if kind == "WEBP" else {}
    empty = Image.new("RGB", (20, 10), "white")
    one, other = (encoded(empty, kind, save_all=True, append_images=[empty, each], **options) for each in drawn)
    assert decode(one, 224, LIMIT).pixels[2, 2].tolist() == [255, 0, 0]
    assert decode(other, 224, LIMIT).pixels[2, 2].tolist() == [0, 0, 255]
    alone = encoded(empty, kind, save_all=True, append_images=[empty], **options)
    assert decode(alone, 224, LIMIT).pixels.min() == 255


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), c) for c in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode(data, 224, LIMIT).pixels[5, 5].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff"])
@pytest.mark.parametrize("size", [(1, 1), (1, 60000), (60000, 1), (1, 300)])
def test_elongated(kind: str, size: tuple[int, int]) -> None:
    if kind == "webp" and max(size) > 16383:
        pytest.skip("WebP ends at 16,383 pixels")
    got = decode(ENCODERS[kind](Image.new("RGB", size, (10, 200, 30))), 224, LIMIT)
    assert (got.width, got.height) == size
    assert got.pixels.shape == (size[1], size[0], 3)


# --- faults ---


@pytest.mark.parametrize("kind", ENCODERS)
def test_cut_short_is_truncated(kind: str) -> None:
    data = ENCODERS[kind](picture(150, 100))
    for share in (0.3, 0.6, 0.9):
        assert code_of(data[: int(len(data) * share)]) == errors.TRUNCATED


@pytest.mark.parametrize("kind", ENCODERS)
def test_damage_is_an_image_error_or_a_picture(kind: str) -> None:
    # Any other exception would cost the whole task.
    rng = np.random.default_rng(1)
    data = ENCODERS[kind](picture(150, 100))
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 4):
            damaged[at] = rng.integers(256)
        for at in rng.integers(0, 100, rng.integers(0, 3)):
            damaged[at] = rng.integers(256)
        got = outcome(bytes(damaged))
        if isinstance(got, Decoded):
            assert_sound(got)


def test_overwritten_jpeg_scan_is_seen() -> None:
    # Pillow shows such a file without a word.
    rng = np.random.default_rng(2)
    data = encoded(picture(300, 200), "JPEG", quality=90)
    start = data.find(b"\xff\xda") + 200
    seen = 0
    for _ in range(20):
        damaged = bytearray(data)
        damaged[start : start + 64] = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
        seen += outcome(bytes(damaged)) in (errors.CORRUPT, errors.TRUNCATED)
    assert seen >= 18


def test_harmless_oddities_of_jpeg() -> None:
    data = encoded(picture(300, 200), "JPEG", quality=90)
    want = decode(data, 224, LIMIT).pixels
    revision = bytearray(data)
    revision[data.find(b"JFIF") + 5] = 9
    sequential = bytearray(data)
    sequential[data.find(b"\xff\xda") + 11 + 1] = 62  # end of the spectrum, without meaning in a sequential file
    for odd in (
        data + b"trailing bytes",
        data + bytes(1000),
        data + data,
        data[:-2] + bytes(40) + data[-2:],
        bytes(revision),
        bytes(sequential),
    ):
        assert np.array_equal(decode(odd, 224, LIMIT).pixels, want)


@pytest.mark.parametrize("kind", ["png", "gif", "webp", "bmp"])
def test_bytes_after_the_end(kind: str) -> None:
    data = ENCODERS[kind](picture(60, 40))
    assert np.array_equal(decode(data + b"trailing", 224, LIMIT).pixels, decode(data, 224, LIMIT).pixels)


def test_what_is_no_image() -> None:
    assert code_of(b"") == errors.EMPTY
    for data in (b"hello", b"BM, a word that begins like a bitmap", b"<html>" + bytes(100), bytes(1000), b"\xff"):
        assert code_of(data) == errors.NOT_AN_IMAGE


def test_images_that_nothing_here_reads() -> None:
    for data in (
        encoded(picture(20, 20), "JPEG2000"),
        encoded(picture(20, 20), "PPM"),
        encoded(picture(20, 20), "ICO"),
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<?xml version="1.0"?>\n<svg/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"8BPS" + bytes(100),
    ):
        assert code_of(data) == errors.UNSUPPORTED


def test_brands() -> None:
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "avif"
    assert sniff(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "heif"
    with pytest.raises(ImageError):
        sniff(b"\0\0\0\x18ftypisom\0\0\0\0isommp42")  # a film


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *more: bytes, body: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that claim a huge picture, and their size in pixels stands in the header."""
    jpeg = bytearray(encoded(picture(16, 16), "JPEG"))
    at = jpeg.find(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65000, 65000)
    bmp = bytearray(encoded(picture(16, 16), "BMP"))
    bmp[18:26] = struct.pack("<ii", 50000, 50000)
    gif = bytearray(encoded(picture(16, 16), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    webp = b"VP8X" + struct.pack("<IB", 10, 0) + bytes(3) + b"\xfe\x3f\0\xfe\x3f\0"
    webp += encoded(picture(16, 16), "WEBP")[12:]
    tiff = encoded(Image.new("RGB", (16, 16)), "TIFF")
    for tag in (256, 257):
        entry = struct.pack("<HHI", tag, 4, 1)
        at = tiff.find(struct.pack("<HH", tag, 4) + b"\1\0\0\0")
        if at < 0:
            at = tiff.find(struct.pack("<HH", tag, 3) + b"\1\0\0\0")
        tiff = tiff[:at] + entry + struct.pack("<I", 50000) + tiff[at + 12 :]
    return {
        "png": png(50000, 50000, body=zlib.compress(bytes(1000))),
        "jpeg": bytes(jpeg),
        "bmp": bytes(bmp),
        "gif": bytes(gif),
        "tiff": tiff,
        "webp": b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp,
    }


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "tiff"])
def test_pixel_bombs_are_told_by_their_header(kind: str) -> None:
    assert code_of(bombs()[kind], max_pixels=100_000_000) == errors.TOO_MANY_PIXELS


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    # In a process of its own, whose address space would not hold one of the pictures.
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000)))
    cases = bombs() | {"text": png(4, 4, text, body=zlib.compress(bytes(4 * 13)))}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    script = """
import pathlib, resource, sys
from udfs.images.decode import decode
from udfs.errors import ImageError
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        decode(path.read_bytes(), 224, 100_000_000)
        print(path.name, "ok")
    except ImageError as error:
        print(path.name, error.code)
# Not ru_maxrss: that begins with the peak of the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) // 1024 < 400)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    told = dict(line.split() for line in done.stdout.splitlines()[:-1])
    assert told.pop("text") in ("ok", errors.CORRUPT)
    assert told.pop("webp") in (errors.TOO_MANY_PIXELS, errors.CORRUPT)  # its frame is smaller than its canvas
    assert told == dict.fromkeys(told, errors.TOO_MANY_PIXELS)
    assert done.stdout.splitlines()[-1] == "True"


def test_limit_is_inclusive_and_arguments_are_checked() -> None:
    data = encoded(picture(20, 10), "PNG")
    assert decode(data, 224, 200).width == 20
    assert code_of(data, max_pixels=199) == errors.TOO_MANY_PIXELS
    for bad in ((0, 100), (224, 0)):
        with pytest.raises(ValueError, match="must be >= 1"):
            decode(data, *bad)
