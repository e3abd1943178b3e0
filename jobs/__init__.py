"""Driver code: one file a stage, and the contract of the tables between them."""

import os

import udfs

__version__ = "0.1.0"

# `udfs` is a general name: another package of that name, found first, would fail in the middle of some import.
if getattr(udfs, "__version__", None) != __version__:
    raise ImportError(
        f"the package udfs at {udfs.__file__} is not imagesieve {__version__}'s: "
        "take it off PYTHONPATH, or install imagesieve again"
    )

# Read when NumPy is first imported: else the threads of its products spin for long after each, a tenth of a small run.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles
