"""Imported by the process that children are forked from: what most of them need, and that has no threads yet."""

import gc
from contextlib import suppress

from udfs import content, copies, image_pass  # noqa: F401
from udfs.children import serving
from udfs.images import alignment  # noqa: F401
from udfs.vectors import cell_packs, keepers, merge, near_rule, outliers, search  # noqa: F401

with suppress(ImportError):  # told by the task that needs it
    import openvino  # noqa: F401

with suppress(ImportError):  # no child of Spark's has this process for a parent
    from pyspark import cloudpickle  # noqa: F401 (functions come by it, and it takes a tenth of a second)

serving.spare_arrow_pandas()
gc.freeze()  # else the collector writes to, and so copies, all that is shared
