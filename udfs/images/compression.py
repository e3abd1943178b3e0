"""What the header of a JPEG file tells of how much it was compressed."""

BEST = 100.0
# JPEG quality below which an image is squeezed: what is lost shows, so that it is no original to keep even where times
# of files, which many ways of copying change, say so. Cameras and web sites save at 60 and more.
SQUEEZED = 50.0
# The first ten luminance values of the standard's example table (ITU-T T.81, annex K), in zigzag order: the coarse half
# of the picture. The others reach the end of their range, 255, at low qualities and tell no more.
_TABLE = (16, 11, 12, 14, 12, 10, 16, 14, 13, 14)


def jpeg_quality(data: bytes) -> float:
    """Quality 1..100 at which libjpeg would have written the file, by its first table of quantisation; BEST for what is
    no JPEG and where there is no such table. Inverts jpeg_quality_scaling() of libjpeg's jcparam.c."""
    found = _first_table(data) if data[:2] == b"\xff\xd8" else None
    if found is None:
        return BEST
    scale = 100 * sum(found) / sum(_TABLE)
    return min(BEST, max(1.0, (200 - scale) / 2 if scale <= 100 else 5000 / scale))


def _first_table(data: bytes) -> list[int] | None:
    """The first values of table 0, the one of luminance by custom. Stops where the picture begins."""
    at = 2
    while data[at : at + 1] == b"\xff":
        marker, length = data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xff":  # a fill byte
            at += 1
            continue
        if marker == b"\xdb":
            tables, place = data[at + 4 : at + 2 + length], 0
            while place < len(tables):
                wide, number = tables[place] >> 4, tables[place] & 15
                size = 2 if wide else 1
                values = tables[place + 1 : place + 1 + len(_TABLE) * size]
                if number == 0 and len(values) == len(_TABLE) * size:
                    return [int.from_bytes(values[i : i + size], "big") for i in range(0, len(values), size)]
                place += 1 + 64 * size
        if marker == b"\xda" or length < 2:
            break
        at += 2 + length
    return None
