"""Imported by the process that children are forked from: what most of them need, and that has no threads yet."""

import gc
from contextlib import suppress

from udfs import alignment, image_pass, isolation, search  # noqa: F401

with suppress(ImportError):  # told by the task that needs it
    import openvino  # noqa: F401

isolation.spare_arrow_pandas()
gc.freeze()  # else the collector writes to, and so copies, all that is shared
