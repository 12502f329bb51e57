"""Values that no run can mean, such as an unset shell variable or a number beyond all use, are refused in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import flops
import inference_artist
import prepare_dataset
import speed
import train_artist_multilabel
import train_artist_style
from runtime.arguments import Parser, flag_name
from utils import UserError

PARSERS: list[Parser[Any]] = [module.build_parser() for module in (
    train_artist_style, train_artist_multilabel, inference_artist, prepare_dataset, speed, flops)]


def fields(group: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a group and of the groups in it, with their types."""
    hints = get_type_hints(group)
    found = [(field, hints[field.name]) for field in dataclasses.fields(group) if field.name != "given"]
    return [pair for field, hint in found
            for pair in (fields(hint) if dataclasses.is_dataclass(hint) else [(field, hint)])]


def refusal(parser: Parser[Any], *arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        parser.parse_args(list(arguments))
    return str(caught.value)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_no_text_and_no_path_may_be_empty(parser: Parser[Any]) -> None:
    for field, hint in fields(parser.group):
        if {str, Path} & {hint, *get_args(hint)} and not field.metadata["positional"]:
            assert f'{flag_name(field.name)} ""; expected a value' in refusal(parser, flag_name(field.name), "")


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_real_number_has_a_range(parser: Parser[Any]) -> None:
    for field, hint in fields(parser.group):
        if float in (hint, *get_args(hint)):
            limits, name = field.metadata["limits"], flag_name(field.name)
            assert {"at_most", "below"} & limits.keys(), name
            assert {"at_least", "above", "zero_or_at_least"} & limits.keys(), name
            many = 2 if hint == tuple[float, float] else 1
            assert "expected a number" in refusal(parser, name, *["1e300"] * many)


@pytest.mark.parametrize(("flags", "told"), [
    (["--input-size", "100000"], "at most 4096"), (["--feature-dim", "100000000"], "at most 65536"),
    (["--mixup", "1e-320"], "zero or at least 0.001"), (["--cutmix", "1e-9"], "zero or at least 0.001"),
    (["--scale", "0.9", "0.2"], "the smallest first"), (["--ratio", "2", "0.5"], "the smallest first"),
    (["--contrastive-temperature", "1e-30"], "at least 0.001"), (["--epochs", "1" + "0" * 20], "at most 1000000"),
    (["--num-workers", "100000"], "at most 1024"), (["--clip-grad", "1e-320"], "zero or at least")])
def test_numbers_without_sense_are_refused(flags: list[str], told: str) -> None:
    message = refusal(PARSERS[0], "--data-path", "x", *flags)
    assert told in message
    assert " ".join(flags[:2]) in message


def test_numbers_at_the_limits_are_taken() -> None:
    found = PARSERS[0].parse_args(
        ["--data-path", "x", "--mixup", "0", "--cutmix", "0.001", "--scale", "0.5", "0.5", "--input-size", "4096"])
    assert (found.mixup, found.cutmix, found.scale, found.input_size) == (0, 0.001, [0.5, 0.5], 4096)


@pytest.mark.parametrize(("model", "size"), [("test_vit", 33), ("test_vit", 50)])
def test_an_input_size_that_the_network_cannot_take_is_told(
        data_set: Path, tmp_path: Path, model: str, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data-path", str(data_set), "--output-dir", str(tmp_path / "run"), "--num-workers", "0"]
    assert train_artist_style.main([*common, "--model", model, "--input-size", str(size)]) == 2
    assert f"found an input of {size} px for {model}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert flops.main(["--model", model, "--resolution", str(size)]) == 2


@pytest.mark.parametrize("flag", ["--resume", "--teacher-path", "--finetune-from"])
@pytest.mark.parametrize("kind", ["folder", "device", "text"])
def test_what_is_no_checkpoint_is_told(data_set: Path, tmp_path: Path, flag: str, kind: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("hello")
    path = Path("/dev/null") if kind == "device" else tmp_path / kind
    assert train_artist_style.main(["--data-path", str(data_set), "--output-dir", str(tmp_path / "run"), "-j",
                                    "0", "--model", "test_efficientnet", "--input-size", "32", flag, str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("train_artist_style.py: found ")]) == 1
    assert str(path) in lines[-1]
    assert not (tmp_path / "run").exists()
