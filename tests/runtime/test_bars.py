"""Every bar fits a terminal of 80 columns, of a long run, too."""

from __future__ import annotations

import pytest
from tqdm import tqdm

from runtime.progress import BAR, BAR_OF_FIGURES


@pytest.mark.parametrize(("form", "title", "figures"), [
    (BAR, "looking for near-duplicates", ""), (BAR, "evaluate", ""), (BAR, "pictures", ""),
    (BAR_OF_FIGURES, "epoch 100/300", "loss 1.234, 2345 img/s, 12 h 13 min left"),
    (BAR_OF_FIGURES, "epoch 100/300", "0 img/s")])
@pytest.mark.parametrize("total", [1, 5004, 1_000_000])
@pytest.mark.parametrize("seconds", [0, 40, 40_000])
def test_a_bar_fits_and_is_not_cut(form: str, title: str, figures: str, total: int, seconds: int) -> None:
    if form == BAR_OF_FIGURES and total > 5004:
        total = 9999
    line = tqdm.format_meter(total // 2, total, seconds, prefix=title, unit="img", bar_format=form, postfix=figures,
                             ncols=80)
    assert len(line) == 80
    assert line.index("|", line.index("|") + 1) - line.index("|") > 4, line
    assert line.rstrip().endswith(("img/s]", figures or "img/s]"))
