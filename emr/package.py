"""Builds the zip for --py-files: jobs, udfs and conf, the same bytes for the same sources.

python emr/package.py build/imagesieve.zip
"""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("jobs", "udfs", "conf")
ENDINGS = {".py", ".html", ".css", ".yaml", ".properties", ".npz"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def build(target: Path) -> int:
    """Writes the zip and returns its number of files. A wheel would not do: executors cannot import from one."""
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.suffix in ENDINGS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(ROOT).as_posix(), EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    return len(files)


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/imagesieve.zip")
    sys.stdout.write(f"{out}: {build(out)} files\n")
