"""The shared flags: documented names parse, defaults survive, and every flag says what it does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from runtime import options
from runtime.arguments import Parser
from utils import UserError, mix_seed, seed_everything

ALL = tuple(value for value in vars(options).values() if isinstance(value, type)
            and dataclasses.is_dataclass(value) and value.__module__ == options.__name__)
FLAGS = [pytest.param(group, field, id=f"{group.__name__}.{field.name}")
         for group in ALL for field in dataclasses.fields(group) if field.metadata]
# group -> flags that it requires
REQUIRED = {options.ArtistOptions: ["--data-path", "x"], options.TrainedOptions: ["--checkpoint", "x"],
            options.MultiLabelTrainerOptions: ["--data-path", "x"],
            options.ImageNetOptions: ["--data-path", "x"], options.Workload: [], options.ClusterOptions: []}


def parse(*arguments: str, group: type = options.ArtistOptions) -> Any:
    return Parser(group, prog="train.py", description=None).read(arguments)


@pytest.mark.parametrize(("group", "field"), FLAGS)
def test_every_flag_has_help_that_the_parser_can_print(group: type, field: dataclasses.Field) -> None:
    text = field.metadata["help"]
    assert len(text.split()) >= 2
    assert text == " ".join(text.split())
    assert not text.endswith(".")


@pytest.mark.parametrize("group", REQUIRED, ids=lambda group: group.__name__)
def test_defaults_survive_the_parser(group: type) -> None:
    check_defaults(parse(*REQUIRED[group], group=group))


def check_defaults(found: Any) -> None:
    for field in dataclasses.fields(found):
        if field.name == "given":
            continue
        value = getattr(found, field.name)
        if dataclasses.is_dataclass(value):
            check_defaults(value)
        elif field.default is not dataclasses.MISSING:
            assert value == field.default


def test_the_documented_names_mean_the_same() -> None:
    one = parse("--data_path", "d", "--num_workers", "8", "--img-size", "96", "--drop-path", "0.1", "--auto-augment",
                "v0", "--label-smoothing", "0.2", "--grad-accum-steps", "4", "--no-projection")
    other = parse("--data-path", "d", "--workers", "8", "--input-size", "96", "--drop-path-rate", "0.1", "--aa", "v0",
                  "--smoothing", "0.2", "--accumulation-steps", "4", "--no-use-projection")
    assert one == other
    assert one.as_config() | {"num_workers": 8, "input_size": 96, "use_projection": False} == one.as_config()


@pytest.mark.parametrize("arguments", [
    ["--epochs", "0"], ["--batch-size", "0"], ["--input-size", "16"], ["--lr", "0"], ["--lr", "nan"], ["--lr", "inf"],
    ["--seed", "-1"], ["--seed", str(2**64)], ["--hflip", "1.1"], ["--model-ema-decay", "1"], ["--mixup", "-0.1"],
    ["--save-every", "-1"], ["--eval-every", "0"], ["--fit", "stretch"], ["--clip-mode", "l2"], ["--scale", "0", "1"],
    ["--warmup-epochs", "1.5"], ["--feature-dim", "0"], ["--drop-path", "1"]])
def test_a_value_outside_its_range_is_refused_by_name(arguments: list[str]) -> None:
    with pytest.raises(UserError, match=f"found {arguments[0]}") as caught:
        parse("--data-path", "d", *arguments)
    assert arguments[1] in caught.value.found
    assert caught.value.expected


def test_the_largest_seed_seeds() -> None:
    seed = parse("--data-path", "d", "--seed", str(2**63 - 1)).as_config()["seed"]
    seed_everything(seed)
    assert mix_seed(seed) >= 0
