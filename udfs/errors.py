"""What can be wrong with one image: a closed list of codes, each a value of `failures.error`."""

NOT_FOUND = "not_found"  # no such object or file
ACCESS_DENIED = "access_denied"  # the store refused to show it
TIMEOUT = "timeout"  # the store did not answer in time, after all retries
FETCH_FAILED = "fetch_failed"  # the store answered with an error, after all retries
EMPTY = "empty"  # 0 bytes
TOO_MANY_BYTES = "too_many_bytes"  # larger than embed.max_bytes
TOO_MANY_PIXELS = "too_many_pixels"  # its header claims more than embed.max_pixels
NOT_AN_IMAGE = "not_an_image"  # no known image format begins like this
UNSUPPORTED = "unsupported"  # an image, in a format or variant that no decoder here reads
TRUNCATED = "truncated"  # the data end before the image does
CORRUPT = "corrupt"  # the decoder found it broken
CRASHED = "crashed"  # the decoder itself crashed or hung on it
NO_VECTOR = "no_vector"  # the imported vectors hold no usable one for it, or the network overflowed

CODES = (
    NOT_FOUND,
    ACCESS_DENIED,
    TIMEOUT,
    FETCH_FAILED,
    EMPTY,
    TOO_MANY_BYTES,
    TOO_MANY_PIXELS,
    NOT_AN_IMAGE,
    UNSUPPORTED,
    TRUNCATED,
    CORRUPT,
    CRASHED,
    NO_VECTOR,
)
# A later run tries these again: they can pass without the object changing. All others stay until it does.
TRANSIENT = (TIMEOUT, FETCH_FAILED, ACCESS_DENIED)
# So can these, if the limits of the run change.
BEYOND_LIMITS = (TOO_MANY_BYTES, TOO_MANY_PIXELS)
MAX_DETAIL = 500  # characters of a detail that are kept


class ImageError(Exception):
    """One image cannot be used. code: one of CODES. detail: at most MAX_DETAIL characters, printable, on one line.

    Raises ValueError for a code outside CODES."""

    def __init__(self, code: str, detail: str = "") -> None:
        if code not in CODES:
            raise ValueError(f"unknown image error code: {code}")
        self.code = code
        self.detail = "".join(c if c.isprintable() else " " for c in detail)[:MAX_DETAIL]
        super().__init__(f"{code}: {self.detail}" if self.detail else code)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.code, self.detail)
