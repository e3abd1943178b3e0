"""Where this program keeps what it can make again: converted models, and galleries of lakes."""

import os
from pathlib import Path


def user_cache() -> Path:
    """IMAGESIEVE_CACHE, else a folder of the user's caches."""
    given = os.environ.get("IMAGESIEVE_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagesieve"
