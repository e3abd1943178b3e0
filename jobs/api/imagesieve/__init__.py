"""Sieves a lake of images, from Python.

    import imagesieve

    lake = imagesieve.run("photos")                    # all stages; the tables go to ./photos-lake
    print(lake.summary())                              # images by issue
    worst = lake.pandas("issues").sort_values("score")
    lake.clean("kept.csv")                             # what to keep; it deletes nothing

`open` takes a lake that is there, wherever it was made. `group` needs no lake: vectors in memory."""

from imagesieve.running import run
from imagesieve.showing import Shown
from imagesieve.tables import CleanSet, Lake, Report, open
from jobs import __version__
from jobs.errors import RunError
from udfs.vectors.similarity import Groups, group

__all__ = ["CleanSet", "Groups", "Lake", "Report", "RunError", "Shown", "__version__", "group", "open", "run"]
