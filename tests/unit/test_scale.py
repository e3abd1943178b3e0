"""The page on a billion images: made from the code's own arithmetic, and kept in step with it."""

import pytest

from emr.costs import stage_work
from jobs import config
from jobs.cleaning import prices
from tests.bench import scale


def test_the_page_is_what_the_command_prints() -> None:
    """A change of the cells, the probes or the expected recall that leaves the page as it was."""
    assert scale.PAGE.read_text(encoding="utf-8") == scale.page(stage_work.load(), prices.load())


@pytest.mark.parametrize("images", scale.SIZES)
def test_a_task_stays_small(images: int) -> None:
    """Cells that a machine cannot hold, and bytes that are not those of the packs."""
    settings = config.load().neighbours
    plan = stage_work.search_plan(images, settings)
    assert plan.task_bytes <= settings.cell_mb * 1e6
    assert plan.task_images * plan.cells == pytest.approx(images * plan.probes, rel=0.01)
    assert plan.shuffle_bytes >= images * plan.probes * stage_work.DIMENSION * 2
