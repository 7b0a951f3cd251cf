"""The bar in the terminal."""

import pytest

from core.cli.progress_bar import ProgressBar


def test_it_shows_phase_auroc_and_log_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("LoRA [/b] of [Plate]") as bar:
        bar.log("Positives: [/x] 3")
        bar.metric("val/auroc/Plate", 0.1, epoch=1, step=3)
        bar.metric("val/auroc", 0.8125, epoch=1, step=3)
        bar.progress(0.5, 12.0, "training [/y], epoch 1 of 2")
        bar.rewind(0)
        assert not bar.stop_requested()
    out, err = capsys.readouterr()
    assert out == ""
    shown = " ".join(err.split())
    for said in (
        "LoRA [/b] of [Plate]",
        "Positives: [/x] 3",
        "AUROC 0.812",
        "training [/y]",
        "50%",
    ):
        assert said in shown
