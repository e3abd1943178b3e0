"""Small images made from a seed, and a zoo of bad ones and of strange names."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
BOMB_SIDE = 50_000
ORIENTATION = 0x0112  # EXIF tag; 6: turn by 90 degrees

HOSTILE = "<img src=x onerror=alert(1)>.jpg"
# Each of these is one file name of a good JPEG.
STRANGE_NAMES = (
    "two words.jpg",
    'it\'s "quoted".jpg',
    "a#b?c.jpg",
    "100%.jpg",
    "a%20b.jpg",
    "caf\u00e9.jpg",  # NFC
    "cafe\u0301.jpg",  # NFD: another name
    "new\nline.jpg",
    "-rf.jpg",
    "back\\slash.jpg",
    "comma,semi;.jpg",
    "{curly}[x]*.jpg",
    "\U0001f600.jpg",
    HOSTILE,
)
NOT_UTF8 = b"latin-\xe9.jpg"


def picture(seed: int, width: int = 96, height: int = 72) -> Pixels:
    """A picture unlike that of any other seed: a coloured texture with shapes. (height, width, 3) uint8 RGB."""
    rng = np.random.default_rng([seed, 2024])
    cells = int(rng.choice([2, 3, 5, 8, 13]))
    coarse = rng.integers(0, 256, (cells, cells + 1, 3), dtype=np.uint8)
    smooth = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    image = np.ascontiguousarray(cv2.resize(coarse, (width, height), interpolation=smooth))
    for _ in range(int(rng.integers(1, 6))):
        ink = [int(value) for value in rng.integers(0, 256, 3)]
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        size = int(rng.integers(6, 30))
        match int(rng.integers(0, 4)):
            case 0:
                cv2.circle(image, at, size, ink, -1)
            case 1:
                cv2.rectangle(image, at, (at[0] + size, at[1] + 2 * size), ink, -1)
            case 2:
                cv2.line(image, at, (at[1], at[0]), ink, 1 + size // 6)
            case _:
                cv2.putText(image, "AbQx9?"[size % 6], at, cv2.FONT_HERSHEY_SIMPLEX, size / 12, ink, 2)
    grain = rng.normal(0, float(rng.uniform(1, 18)), image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int = 92, **options: object) -> bytes:
    return _saved(Image.fromarray(pixels), "JPEG", quality=quality, **options)


def png(pixels: Pixels) -> bytes:
    return _saved(Image.fromarray(pixels), "PNG")


def near_copy(pixels: Pixels) -> bytes:
    """The same picture at lower quality, a little smaller and brighter: other pixels."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (width * 7 // 8, height * 7 // 8), interpolation=cv2.INTER_AREA)
    return jpeg(np.clip(small.astype(np.int16) + 6, 0, 255).astype(np.uint8), quality=70)


def rotated_by_exif(pixels: Pixels) -> bytes:
    """Upright it is pixels; stored it lies on its side."""
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return _saved(stored, "JPEG", quality=92, exif=exif)


def bomb() -> bytes:
    """A PNG of a hundred bytes that claims 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def animation(first: Pixels, second: Pixels) -> bytes:
    frames = [Image.fromarray(first), Image.fromarray(second)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


def bad_files() -> dict[str, tuple[bytes, str]]:
    """name -> (bytes, the code that a run must give)."""
    whole_jpeg, whole_png = jpeg(picture(900)), png(picture(901))
    return {
        "empty.jpg": (b"", "empty"),
        "truncated.jpg": (whole_jpeg[: len(whole_jpeg) // 2], "truncated"),
        "truncated.png": (whole_png[: len(whole_png) // 2], "truncated"),
        "text.jpg": (b"This is a text and no image.\n" * 20, "not_an_image"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_an_image"),
        "bomb.png": (bomb(), "too_many_pixels"),
        "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
    }


def odd_files() -> dict[str, tuple[bytes, str, tuple[int, int]]]:
    """Unusual but good: name -> (bytes, format, (width, height) upright)."""
    base, other = picture(910), picture(911)
    deep = np.random.default_rng(3).integers(0, 65536, (48, 64), dtype=np.uint16)
    alpha = Image.fromarray(picture(912)).convert("RGBA")
    alpha.putalpha(Image.fromarray(picture(913)[:, :, 0]))
    return {
        "png-called.jpg": (png(picture(914)), "png", (96, 72)),
        "animated.gif": (animation(base, other), "gif", (96, 72)),
        "cmyk.jpg": (_saved(Image.fromarray(picture(915)).convert("CMYK"), "JPEG", quality=92), "jpeg", (96, 72)),
        "sixteen-bits.png": (_saved(Image.fromarray(deep), "PNG"), "png", (64, 48)),
        "palette.png": (_saved(Image.fromarray(picture(916)).quantize(32), "PNG"), "png", (96, 72)),
        "alpha.png": (_saved(alpha, "PNG"), "png", (96, 72)),
        "grey.jpg": (_saved(Image.fromarray(picture(917)).convert("L"), "JPEG"), "jpeg", (96, 72)),
        "turned.jpg": (rotated_by_exif(picture(918, 60, 90)), "jpeg", (60, 90)),
        "UPPER.JPG": (jpeg(picture(919)), "jpeg", (96, 72)),
        "one-pixel.png": (png(np.full((1, 1, 3), 77, np.uint8)), "png", (1, 1)),
        "lossy.webp": (_saved(Image.fromarray(picture(920)), "WEBP", quality=90), "webp", (96, 72)),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes files by their relative names; folders are made."""
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def labelled_lake(count: int = 14) -> dict[str, bytes]:
    """`{split}/{label}/…` with exact and near copies, some across splits, corrupted files and strange names."""
    files = {
        f"{'train' if n % 3 else 'test'}/{'cat' if n % 2 else 'dog'}/{n:03d}.jpg": jpeg(picture(n))
        for n in range(count)
    }
    files["train/cat/copy of 1.jpg"] = files["train/cat/001.jpg"]
    files["test/cat/copy-of-1.jpg"] = files["train/cat/001.jpg"]
    files["test/dog/two as png.png"] = png(picture(2))
    files["test/dog/near-4.jpg"] = near_copy(picture(4))
    files["train/dog/near-4.jpg"] = near_copy(np.ascontiguousarray(picture(4)[2:, 2:]))
    files["train/dog/a#b %20 100%.jpg"] = jpeg(picture(30))
    files["train/cafe\u0301/na\u00efve 'q'.jpg"] = jpeg(picture(31))
    for name, (data, _) in bad_files().items():
        files[f"train/broken/{name}"] = data
    files["train/notes.txt"] = b"not listed"
    return files


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()
