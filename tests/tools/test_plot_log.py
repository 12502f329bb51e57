"""Curves from a log, as a user draws them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tools.plot_log import main


def test_curves_of_a_published_log(tmp_path: Path, run_script) -> None:
    log = tmp_path / "lsnet_t.log"
    log.write_text("".join(f'{{"train_lr": {1e-3 / (n + 1)}, "train_loss": {7 - n}, "test_loss": {6 - n}, '
                           f'"test_acc1": {n * (5 - n)}, "epoch": {n}}}\n' for n in range(5)))
    done = run_script("tools/plot_log.py", log)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"5 epochs, best top-1 6.000 in epoch 3; {tmp_path / 'lsnet_t.png'}\nnext: ")
    with Image.open(tmp_path / "lsnet_t.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(2**24)) > 100


def test_the_output_can_be_named_and_the_log_must_exist(tmp_path: Path, capsys) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "train_loss": 2.0, "lr": 0.1}\n')
    assert main([str(tmp_path / "metrics.jsonl"), "--output", str(tmp_path / "out" / "mine.png")]) == 0
    assert (tmp_path / "out" / "mine.png").exists()
    assert capsys.readouterr().out.startswith("1 epoch; ")
    assert main([str(tmp_path / "nowhere.jsonl")]) == 2


def test_the_best_macro_map_is_named(tmp_path: Path, capsys) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"epoch": {epoch}, "val_macro_map": {value}}}\n'
                                                    for epoch, value in ((1, 50.5), (2, 61.25), (3, 60))))
    assert main([str(tmp_path / "metrics.jsonl")]) == 0
    assert capsys.readouterr().out.startswith("3 epochs, best macro mAP 61.250 in epoch 2; ")
