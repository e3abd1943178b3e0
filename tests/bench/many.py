"""Many image files out of few photographs, no two of them equal.

python -m tests.bench.many --photos DIR --count N FOLDER
"""

import argparse
from pathlib import Path

PER_FOLDER = 1000
TAIL_BYTES = 8


def image_files(folder: Path) -> list[Path]:
    """The JPEG files below a folder, by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def photographs(folder: Path) -> list[Path]:
    """As image_files. Raises ValueError where there is none."""
    found = image_files(folder)
    if not found:
        raise ValueError(f"{folder} holds no JPEG file")
    return found


def make(photos: Path, folder: Path, count: int) -> list[Path]:
    """Writes `count` files into sub-folders of `folder`, at most PER_FOLDER in each, and returns them in that order.

    The photographs follow one another and start again from the first. Each file is a photograph with its own number
    appended after the end of the JPEG, which decoders ignore: the same pixels as other files, but never the same bytes.
    The same arguments give the same names and the same bytes.
    Raises FileExistsError where `folder` holds something already, and ValueError where there is nothing to repeat."""
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    contents = [(path.stem, path.read_bytes()) for path in photographs(photos)]
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        stem, data = contents[number % len(contents)]
        inside = folder / f"{number // PER_FOLDER:04d}"
        if number % PER_FOLDER == 0:
            inside.mkdir()
        path = inside / f"{number:07d}_{stem}.jpg"
        path.write_bytes(data + number.to_bytes(TAIL_BYTES, "big"))
        made.append(path)
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(argv)
    make(options.photos, options.folder, options.count)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
