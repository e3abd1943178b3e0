"""Bytes of an image file to upright RGB pixels at an analysis scale.

What every format has in common: only the first page, or the first frame in which there is anything; ICC profiles and
gamma are ignored, as training loaders do; udfs.images.samples has what becomes of transparency and of samples of more
than 8 bits. The size in the header is held against `max_pixels` before a pixel is decoded. The result depends on the
bytes and the arguments alone.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

from udfs import errors
from udfs.errors import ImageError
from udfs.images import containers, samples

if TYPE_CHECKING:
    import pi_heif

DETAIL_PIXELS = (
    1 << 20
)  # up to this size a picture is also looked at in its own pixels: beyond, that would cost too much

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif")

_HEADS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF
    (b"MM\0+", "tiff"),
)
# Images that nothing here decodes: said so, and not called "not an image".
_UNSUPPORTED_HEADS = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "icon"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "DirectDraw surface"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "GIMP"),
    (b"SIMPLE  =", "FITS"),
    (b"%!PS-Adobe", "PostScript"),
    (b"<svg", "SVG"),
)
_NETPBM = re.compile(rb"P[1-7f]\s+[0-9#W]")
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)  # "BM" alone also begins words
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

T = TypeVar("T", np.uint8, np.uint16)
_ORIENTATION = 0x0112  # EXIF tag, values 1..8
# What Pillow and its plug-ins raise on bad data. Only calls into them stand in such a try.
_DECODER_FAULTS = (
    OSError,  # also UnidentifiedImageError
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    EOFError,
    MemoryError,
    RuntimeError,  # also NotImplementedError
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_TRUNCATED = re.compile(r"EOFError|truncated|premature end|end of file|not enough data|insufficient|too small", re.I)
_UNSUPPORTED = re.compile(
    r"unsupported (?!marker)|not supported|not implemented|unknown (pixel mode|compression)", re.I
)
# Warnings of libjpeg about the header; the pixels are as they should be.
_HARMLESS = re.compile(
    r"unknown JFIF revision|unknown Adobe color transform|Invalid SOS parameters for sequential", re.I
)
_ADDRESS = re.compile(r" ?<[^<>]* at 0x[0-9a-f]+>")  # no part of a message that should be the same each time


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image. pixels: (h, w, 3) uint8 RGB, C-contiguous, upright (EXIF orientation applied), at the analysis scale.
    width, height: full size in pixels, upright. format: one of FORMATS. detail: (h, w) uint8 grey, upright, of the full
    size up to DETAIL_PIXELS and at the analysis scale beyond; None where it was not asked for. more: a digest of what
    the 8 bits do not hold, deeper samples or alpha; b"" where they hold all. damage: what is wrong with the file though
    all pixels are there, "" for nothing."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    detail: NDArray[np.uint8] | None = None
    more: bytes = b""
    damage: str = ""


def decode(data: bytes, min_side: int, max_pixels: int, *, detail: bool = False) -> Decoded:
    """Pixels of an image file at the smallest cheap scale whose short side is still >= min_side pixels; an image whose
    short side is below twice that comes whole, and none is ever enlarged. JPEG is scaled in the DCT domain by a half, a
    quarter or an eighth (libjpeg-turbo has fast transforms for these alone: all of 500 x 375 pixels cost less than six
    eighths), every other format by an integer box filter. detail: whether to bring Decoded.detail as well.

    Raises ImageError: empty, not_an_image, unsupported, too_many_pixels (width × height > max_pixels), truncated,
    corrupt; ValueError where min_side or max_pixels is below 1."""
    if min_side < 1 or max_pixels < 1:
        raise ValueError(f"min_side and max_pixels must be >= 1, got {min_side} and {max_pixels}")
    kind = sniff(data)
    if kind == "jpeg":
        return _decode_jpeg(data, min_side, max_pixels, detail)
    return _decode_pillow(data, kind, min_side, max_pixels, detail)


def sniff(data: bytes) -> str:
    """The format, one of FORMATS, by the first bytes. Raises ImageError: empty, not_an_image, unsupported."""
    if not data:
        raise ImageError(errors.EMPTY)
    for head, kind in _HEADS:
        if data.startswith(head):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if data[4:8] == b"ftyp":
        # The major brand decides; a general one (mif1) leaves it to the compatible ones.
        brands = [data[8:12]] + [data[i : i + 4] for i in range(16, min(int.from_bytes(data[:4], "big"), 256), 4)]
        if brands[0] in _AVIF_BRANDS or (brands[0] in (b"mif1", b"msf1") and any(b in _AVIF_BRANDS for b in brands)):
            return "avif"
        if brands[0] in _HEIF_BRANDS or any(b in _HEIF_BRANDS for b in brands):
            return "heif"
    for head, name in _UNSUPPORTED_HEADS:
        if data.startswith(head):
            raise ImageError(errors.UNSUPPORTED, name)
    if _NETPBM.match(data):
        raise ImageError(errors.UNSUPPORTED, "Netpbm")
    if data[:5] == b"<?xml" and b"<svg" in data[:4096]:
        raise ImageError(errors.UNSUPPORTED, "SVG")
    raise ImageError(errors.NOT_AN_IMAGE, f"begins with {data[:16]!r}")


# --- JPEG ---


def _decode_jpeg(data: bytes, min_side: int, max_pixels: int, detail: bool) -> Decoded:
    try:
        height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        # TurboJPEG knows six chroma subsamplings only; Pillow reads the others, or says what is wrong.
        return _decode_pillow(data, "jpeg", min_side, max_pixels, detail)
    if colourspace in ("CMYK", "YCCK"):
        return _decode_pillow(data, "jpeg", min_side, max_pixels, detail)
    _check_size(width, height, max_pixels)
    factor = 1 << min(3, (min(width, height) // min_side).bit_length() - 1) if min(width, height) > min_side else 1
    pixels, damage = _turbo(data, (-(-height // factor), -(-width // factor)) if factor > 1 else (0, 0))
    orientation = _exif_orientation(jpeg_exif(data))
    fine = None
    if detail:
        whole = pixels.shape[:2] == (height, width) or width * height > DETAIL_PIXELS
        fine = _grey(pixels) if whole else _luma(data)
        fine = _upright(fine, orientation)
    if orientation >= 5:  # the four that swap the axes
        width, height = height, width
    return Decoded(_upright(pixels, orientation), width, height, "jpeg", fine, damage=damage)


def _turbo(data: bytes, smallest: tuple[int, int]) -> tuple[NDArray[np.uint8], str]:
    """(h, w, 3) uint8 by libjpeg-turbo, and Decoded.damage. smallest: the least height and width, 0 for all.

    Strict: a warning of the decoder is a fault, as it is the only sign of bytes lost or overwritten within the picture.
    Bytes after the end marker are no fault, nor is that it is missing. Two sorts of warning are forgiven: about header
    fields, and about zero bytes before the end marker, which some cameras write."""
    try:
        return _rgb(data, smallest, strict=True), ""
    except ValueError as error:
        text = str(error)
    try:
        if "Premature end of JPEG file" in text and b"\xff\xd9" not in data[-2:]:
            whole = data + b"\xff\xd9"  # all pixels may be there
            return _rgb(whole, smallest, strict=True), "the end marker is missing"
        if _HARMLESS.search(text):
            return _rgb(data, smallest, strict=False), ""
        if "extraneous bytes before marker 0xd9" in text:
            end = data.rfind(b"\xff\xd9")
            whole = data[:end].rstrip(b"\0") + data[end:]
            return _rgb(whole, smallest, strict=True), "zero bytes before the end marker"
    except ValueError as error:
        text = str(error)
    raise _fault(text, data, "jpeg")


def _luma(data: bytes) -> NDArray[np.uint8]:
    """(h, w) uint8 of all pixels, of data that have been decoded before."""
    luma: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "GRAY", strict=False)
    return luma[:, :, 0]


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _rgb(data: bytes, smallest: tuple[int, int], *, strict: bool) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data, "RGB", min_height=smallest[0], min_width=smallest[1], strict=strict
    )
    return pixels


def jpeg_exif(data: bytes) -> bytes:
    """The EXIF block of a JPEG, b"" where there is none. Walks the segments itself: Image.open costs a quarter of the
    decoding."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xe1" and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 4 : at + 2 + length]
        if marker == b"\xda" or length < 2:  # the scan begins, or this is no segment
            break
        at += 2 + length
    return b""


def _exif_orientation(block: bytes) -> int:
    """1..8, 1 where the block is empty or broken."""
    exif = Image.Exif()
    try:
        exif.load(block)
    except _DECODER_FAULTS:
        return 1
    return _orientation(exif)


def _orientation(exif: Image.Exif) -> int:
    """1..8; 1 where there is none, or one that cannot be read."""
    try:
        value = exif.get(_ORIENTATION, 1)
    except _DECODER_FAULTS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray[T], orientation: int) -> NDArray[T]:
    """pixels: (h, w, channels) or (h, w) as stored. Returns them as they are to be seen; orientation: 1..8, of EXIF."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = np.asarray(cv2.transpose(pixels), pixels.dtype)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)  # cv2: 0 upside down, 1 left to right, -1 both
    return pixels if flip is None else np.asarray(cv2.flip(pixels, flip), pixels.dtype)


# --- every other format ---


def _decode_pillow(data: bytes, kind: str, min_side: int, max_pixels: int, detail: bool) -> Decoded:
    try:
        return _by_pillow(data, kind, min_side, max_pixels, detail)
    except ImageError as error:
        if kind != "png" or error.code == errors.TOO_MANY_PIXELS or (plain := containers.needed_chunks(data)) == data:
            raise
        return replace(_by_pillow(plain, kind, min_side, max_pixels, detail), damage=containers.ODD_CHUNKS)


def _by_pillow(data: bytes, kind: str, min_side: int, max_pixels: int, detail: bool) -> Decoded:
    with _faults(data, kind):
        image = _open_heif(data) if kind == "heif" else _open(data, kind)
    # Both are lazy: so far only the header was read.
    width, height = image.size
    _check_size(width, height, max_pixels)
    with _faults(data, kind):
        loaded = image.to_pillow() if not isinstance(image, Image.Image) else image
        loaded.load()
        if kind in containers.ANIMATED:
            loaded = containers.first_to_see(loaded)
    deep = _deep_colours(data, kind, loaded)
    loaded = _transposed(loaded)
    width, height = loaded.size
    with _faults(data, kind):
        plain, more = samples.eight_bit(loaded) if deep is None else samples.deep_colours(deep)
        factor = min(width, height) // min_side
        reduced = plain.reduce(factor) if factor >= 2 else plain
        pixels = np.array(reduced.convert("RGB"), dtype=np.uint8, order="C")
        if not detail:
            fine = None
        elif factor < 2 or width * height > DETAIL_PIXELS:
            fine = _grey(pixels)
        else:
            fine = np.array(plain.convert("L"), dtype=np.uint8, order="C")
    return Decoded(pixels, width, height, kind, fine, more)


def _deep_colours(data: bytes, kind: str, image: Any) -> NDArray[np.uint16] | None:
    """(h, w, 3 or 4) uint16 RGB or RGBA of a PNG of 16 bits with colour or alpha, of which Pillow keeps the upper 8
    bits; None for all other images. image: as Pillow has read it."""
    if kind != "png" or len(data) < 26 or data[24] != 16 or data[25] not in (2, 4, 6):
        return None
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3:
        return None
    order = cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB
    colours = np.asarray(cv2.cvtColor(found, order), np.uint16)
    try:
        exif = image.getexif()
    except _DECODER_FAULTS:
        return colours
    return _upright(colours, _orientation(exif))


def _open(data: bytes, kind: str) -> Image.Image:
    # max_pixels takes the place of Pillow's own limit, which is one for the whole process and only warns at first.
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(io.BytesIO(data), formats=[kind.upper()])


def _open_heif(data: bytes) -> "pi_heif.HeifFile":
    import pi_heif  # only where such data turn up: loads libheif

    return pi_heif.open_heif(data, convert_hdr_to_8bit=True)


def _transposed(image: Image.Image) -> Image.Image:
    """The image with its EXIF orientation applied; as it is where the EXIF block is broken."""
    try:
        return ImageOps.exif_transpose(image)
    except _DECODER_FAULTS:
        return image


# --- faults ---


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(errors.CORRUPT, f"{width} x {height} pixels")
    if width * height > max_pixels:
        raise ImageError(errors.TOO_MANY_PIXELS, f"{width} x {height} pixels, limit {max_pixels}")


@contextmanager
def _faults(data: bytes, kind: str) -> Iterator[None]:
    """What a decoder raises inside becomes an ImageError."""
    try:
        yield
    except _DECODER_FAULTS as error:
        raise _fault(f"{type(error).__name__}: {error}", data, kind) from error


def _fault(text: str, data: bytes, kind: str) -> ImageError:
    """The ImageError for what a decoder said about data that it could not decode."""
    text = _ADDRESS.sub("", text)
    if _TRUNCATED.search(text) or _ends_early(data, kind):
        return ImageError(errors.TRUNCATED, text)
    if _UNSUPPORTED.search(text) or (kind == "tiff" and "UnidentifiedImageError" in text):  # its directory is whole
        return ImageError(errors.UNSUPPORTED, text)
    return ImageError(errors.CORRUPT, text)


def _ends_early(data: bytes, kind: str) -> bool:
    """Whether data that could not be decoded are shorter than they themselves say."""
    if kind in ("avif", "heif"):
        return _boxes_end_early(data)
    if kind == "webp":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if kind == "tiff":  # its directory often stands at the end
        return len(data) < 8 or int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") >= len(data)
    end = {"jpeg": b"\xff\xd9", "png": b"IEND", "gif": b";"}.get(kind, b"")
    return end not in (data if kind == "jpeg" else data[-64:])  # a JPEG may be followed by anything


def _boxes_end_early(data: bytes) -> bool:
    """Whether the last top-level box (ISO 14496-12) reaches beyond the data."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:  # 0: up to the end; 1: a 64-bit size, which no still picture needs
            return False
        at += size
    return at != len(data)
