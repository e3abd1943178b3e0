"""What mkdocs does beyond mkdocs.yml: README.md is the first page, and links to the code stay names."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds README.md, whose links to docs/ become links beside it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link to a file outside docs/ becomes its text, as the site lacks it. A link within stays, to be checked."""

    def named(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        outside = target.startswith("../") or (page.file.src_uri == "index.md" and (ROOT / target).exists())
        return text if outside else link[0]

    return _LINK.sub(named, markdown)
