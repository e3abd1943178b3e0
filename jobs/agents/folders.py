"""Files that an agent may name: only such as lie in folders that the user has named."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

MOST_BYTES = 64 << 20


class FileRefusedError(ValueError):
    """A file that may not be read, or cannot; one line."""


def resolved(folders: Sequence[str]) -> list[Path]:
    """The folders as they lie, links followed. Raises ValueError where one is none."""
    found = []
    for folder in folders:
        path = Path(folder).resolve()
        if not path.is_dir():
            raise ValueError(f"{folder} is no folder")
        found.append(path)
    return found


def read(path: str, folders: Sequence[Path]) -> bytes:
    """The bytes of a regular file under one of the folders, links followed. Raises FileRefusedError, which is the same
    for a file outside whether or not it is there."""
    if not folders:
        raise FileRefusedError("no folder of files was opened to agents: start `imagesieve mcp` with --files FOLDER")
    refused = FileRefusedError(f"only files under {', '.join(map(str, folders))} may be named")
    try:
        real = Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a circle of links
        raise refused from error
    if not any(real.is_relative_to(folder) for folder in folders):
        raise refused
    try:
        # Neither a link that has come meanwhile nor a pipe without a writer.
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileRefusedError(f"{path[:300]} is no file")
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileRefusedError(f"{path[:300]}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise FileRefusedError(f"{path[:300]}: more than {MOST_BYTES} bytes")
    return data
