"""Image URIs: the one spelling of each, and how it becomes a path or an S3 key.

Canonical forms: an absolute local path (`/data/a b#1.jpg`) and `s3://bucket/key`, both raw, nothing percent-encoded, so
that a name with `%41` in it stays itself. Only a local name that is not UTF-8 is written `file:///…%FF…`, because a
column of strings cannot hold its bytes. Names are never normalised to NFC or NFD: the bytes are the name.
"""

import os
import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

_S3 = "s3://"
_FILE = "file://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(file|data):", re.IGNORECASE)


def canonical(uri: str, base: str | None = None) -> str:
    """The canonical form of a path or URI as a person or a manifest wrote it.

    `file:` is percent-decoded; `s3a:` and `s3n:` become `s3:`, their key taken as it stands. A local path loses `//`,
    `.` and `..` (by spelling, as a shell does; symbolic links are not looked up). A relative path is joined to base, a
    canonical URI of a folder, or to the working directory where there is none; on an S3 base only the `./` and `../`
    that it begins with are taken as steps, since later ones are legal parts of a key.
    Raises ValueError for another scheme, a host in a `file:` URI, no bucket, an empty name or a NUL."""
    if not uri or "\0" in uri:
        raise ValueError(f"not a path or URI: {uri!r}")
    match = _SCHEME.match(uri)
    if match is None:
        return _from_path(uri, base)
    scheme = (match[1] or match[2]).lower()
    if scheme == "file":
        return _local(_decoded(uri[5:]))
    if scheme not in ("s3", "s3a", "s3n"):
        raise ValueError(f"{scheme}: is not a scheme that images are read from (a path, file: or s3:): {uri[:200]!r}")
    bucket, _, key = uri[match.end() :].partition("/")
    if not bucket:
        raise ValueError(f"no bucket in {uri[:200]!r}")
    key.encode()  # a lone surrogate is in no S3 key, and raises UnicodeEncodeError, a ValueError
    return f"{_S3}{bucket}/{key}"


def is_s3(uri: str) -> bool:
    """Whether a canonical URI names an object (or a prefix) in S3."""
    return uri.startswith(_S3)


def split_s3(uri: str) -> tuple[str, str]:
    """(bucket, key) of a canonical S3 URI, the key raw: that of `s3://b//a` is `/a`. Raises ValueError for others."""
    if not uri.startswith(_S3):
        raise ValueError(f"not an s3:// URI: {uri[:200]!r}")
    bucket, _, key = uri[len(_S3) :].partition("/")
    if not bucket:
        raise ValueError(f"no bucket in {uri[:200]!r}")
    return bucket, key


def local_path(uri: str) -> bytes:
    """The path of a canonical local URI, as bytes: what the kernel takes, in any locale. Raises ValueError for S3."""
    if uri.startswith(_FILE):
        return _decoded(uri[5:])
    if not uri.startswith("/"):
        raise ValueError(f"not a local path: {uri[:200]!r}")
    return uri.encode()


def from_local_path(path: bytes) -> str:
    """The canonical URI of an absolute path, taken as it is; `local_path` gives the same bytes again."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return _FILE + quote_from_bytes(path)


def join(root: str, *parts: str) -> str:
    """The URI of a name below a canonical root. parts: raw, each set off by one `/` and otherwise kept as it is."""
    quoted = root.startswith(_FILE)
    for part in parts:
        text = quote_from_bytes(part.encode()) if quoted else part
        root = root + text if root.endswith("/") else f"{root}/{text}"
    return root


def relative(uri: str, root: str) -> str:
    """The raw path of a canonical URI below a canonical root, without a leading separator; `join` undoes it.

    A local name that is not UTF-8 comes percent-encoded. Raises ValueError where uri does not lie below root."""
    if is_s3(root) or is_s3(uri):
        below = root if root.endswith("/") else root + "/"
        if not uri.startswith(below):
            raise ValueError(f"{uri!r} does not lie below {root!r}")
        return uri[len(below) :]
    path, folder = local_path(uri), local_path(root).rstrip(b"/") + b"/"
    if not path.startswith(folder):
        raise ValueError(f"{uri!r} does not lie below {root!r}")
    rest = path[len(folder) :]
    try:
        return rest.decode()
    except UnicodeDecodeError:
        return quote_from_bytes(rest)


def _decoded(rest: str) -> bytes:
    """The path of a `file:` URI, given without its scheme. `#` and `?` stand for themselves."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise ValueError(f"a file: URI with a host ({host!r}): write file:///path")
        rest = slash + path
    if not rest.startswith("/"):
        raise ValueError(f"a file: URI without an absolute path: {rest[:200]!r}")
    path_bytes = unquote_to_bytes(rest)
    if b"\0" in path_bytes:
        raise ValueError(f"not a path: {rest[:200]!r}")
    return path_bytes


def _local(path: bytes) -> str:
    # normpath keeps a leading `//`, which POSIX allows to mean something and Linux does not.
    return from_local_path(b"/" + os.path.normpath(path).lstrip(b"/"))


def _from_path(path: str, base: str | None) -> str:
    if path.startswith("/") or base is None:
        return _local(os.path.join(os.getcwdb(), _encoded(path)))  # noqa: PTH109, PTH118 (bytes)
    if not is_s3(base):
        return _local(os.path.join(local_path(base), _encoded(path)))  # noqa: PTH118 (bytes)
    bucket, prefix = split_s3(base)
    folders = prefix.removesuffix("/").split("/") if prefix else []
    rest = path
    while (step := rest.partition("/"))[0] in (".", ".."):
        if step[0] == "..":
            if not folders:
                raise ValueError(f"{path!r} leads out of the bucket from {base!r}")
            folders.pop()
        rest = step[2]
    key = "/".join([*folders, rest])
    key.encode()
    return f"{_S3}{bucket}/{key}"


def _encoded(path: str) -> bytes:
    """UTF-8, and the raw byte for each that `os.listdir` could not decode."""
    return path.encode("utf-8", "surrogateescape")
