"""How a network is trained: values for the flags of the artist trainers that are not given.

A network that begins with weights always has them; one that is trained from scratch has those of --recipe.

What a measurement should choose is a constant here. Crops, colours and views rest on several splits (BENCHMARKS.md);
rates and numbers of epochs do not: none that was tried beat the probe on few pictures. The values are saved with a run,
which takes them from there when it resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar

from runtime.arguments import GIVEN, check_value, flag_text
from runtime.checkpoint import Checkpoint
from runtime.options import TrainerOptions
from utils import UserError, counted

FEW_PICTURES = 20_000  # below: a probe before training, batch norms that keep their statistics, a small rate
RATE_OF_FEW, RATE_OF_MANY = 1e-4, 3e-4
LEAST_RATE = 0.01  # the rate at the end, as a share of the highest
LAYER_DECAY = 1.0
PICTURES_SEEN = 3_500  # by a run on few pictures, between the fewest and the most epochs
FEWEST_EPOCHS, MOST_EPOCHS = 5, 50
EPOCHS_OF_MANY = 20
BATCH, GPU_BATCH, SMALLEST_BATCH = 32, 64, 8
SCALE, COLOR_JITTER = (0.35, 1.0), 0.0  # of augmentation: tones, and the size of strokes, are style
VIEWS = 3  # of each of few pictures, for a probe
PROBE_FLAGS = ("probe_views", "scale", "color_jitter")  # those of a recipe that a linear probe has
UPDATES = 20  # in an epoch, for which smaller batches are taken
# From nothing a network underfits for long: the epochs are many, and the classifier reads the stages directly.
SMALL_SIZE, SMALL_RATE, SMALL_SCALE = 96, 1e-3, (0.05, 0.5)
# While its rate falls, it learns paper and print, which other books do not share; the moving average needs no fall.
SMALL_ADJUSTMENT = 1.0
SMALL_PICTURES_SEEN, SMALL_FEWEST, SMALL_MOST = 40_000, 20, 200
Options = TypeVar("Options", bound=TrainerOptions)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with.

    Attributes:
        keeps_head: the classifier of the same artists comes along.
        is_bare: weights without artists, and no flag says what the classifier shall read.
        head_init: the flag of that name.
    """

    keeps_head: bool
    is_bare: bool
    head_init: Literal["probe", "none"] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Values of the flags of these names; None leaves a flag as it is."""

    epochs: int
    batch_size: int
    lr: float
    min_lr: float
    layer_decay: float
    freeze_bn: bool
    head: Literal["style"] | None
    head_init: Literal["probe", "none"]
    probe_views: int | None
    scale: tuple[float, float]
    color_jitter: float
    input_size: int | None = None
    logit_adjustment: float | None = None


def choose_small_recipe(pictures: int, start: Start | None, *, has_shares: bool) -> Recipe:
    """The recipe of --recipe small, for so many training pictures and a network trained from scratch.

    One that begins with weights, such as those of a distillation, keeps its input size, has a probe before it begins
    where its head is new, and takes two thirds of the epochs.

    `has_shares`: each picture has one class, so that logits can be adjusted by the classes' shares.
    """
    seen = SMALL_PICTURES_SEEN if start is None else SMALL_PICTURES_SEEN * 2 // 3
    epochs = min(max(round(seen / pictures), SMALL_FEWEST), SMALL_MOST)
    head_init = "none" if start is None else start.head_init or ("none" if start.keeps_head else "probe")
    return Recipe(epochs=epochs, batch_size=min(BATCH, max(SMALLEST_BATCH, pictures // UPDATES)), lr=SMALL_RATE,
                  min_lr=SMALL_RATE, layer_decay=1.0, freeze_bn=False,
                  head="style" if start is None or start.is_bare else None, head_init=head_init,
                  probe_views=VIEWS if head_init == "probe" else None, scale=SMALL_SCALE, color_jitter=COLOR_JITTER,
                  input_size=SMALL_SIZE if start is None else None,
                  logit_adjustment=SMALL_ADJUSTMENT if has_shares else None)


def choose_recipe(pictures: int, device: str, start: Start) -> Recipe:
    """The recipe for so many training pictures on a device of this type, such as `cuda`, and a network with weights.

    A classifier that is new and gets no probe has norms without statistics to keep, so that batch norms are not frozen.
    """
    is_few = pictures < FEW_PICTURES
    head_init = start.head_init or ("probe" if is_few and not start.keeps_head else "none")
    epochs = min(max(round(PICTURES_SEEN / pictures), FEWEST_EPOCHS), MOST_EPOCHS) if is_few else EPOCHS_OF_MANY
    batch_size = min(BATCH if device == "cpu" else GPU_BATCH, max(SMALLEST_BATCH, pictures // UPDATES))
    lr = RATE_OF_FEW if is_few else RATE_OF_MANY
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, min_lr=lr * LEAST_RATE, layer_decay=LAYER_DECAY,
                  freeze_bn=is_few and (head_init == "probe" or start.keeps_head),
                  head="style" if start.is_bare else None, head_init=head_init,
                  probe_views=VIEWS if is_few and head_init == "probe" else None, scale=SCALE,
                  color_jitter=COLOR_JITTER)


def describe_recipe(recipe: Recipe, given: frozenset[str], input_size: int, pictures: int) -> str:
    """A line for the log: what was chosen, as flags."""
    chosen = {name: value for name, value in asdict(recipe).items() if name not in given and value is not None}
    chosen |= {} if "input_size" in given else {"input_size": input_size}
    return (f"chosen for {counted(pictures, 'picture')} and this start, but for flags of your own: "
            f"{' '.join(flag_text(name, value) for name, value in chosen.items())}")


def complete(options: Options, values: Mapping[str, Any]) -> Options:
    """`options` with those of `values` that are not None, for the flags of these names that were not given."""
    free = {name: value for name, value in values.items() if value is not None and name not in options.given}
    groups = {field.name: getattr(options, field.name) for field in fields(options) if field.name != GIVEN}
    return replace(options, **{
        name: replace(group, **{field.name: free[field.name] for field in fields(group) if field.name in free})
        for name, group in groups.items()})


def saved_recipe(checkpoint: Checkpoint, options: TrainerOptions) -> dict[str, Any]:
    """The values that the run of `checkpoint` has for the flags of a recipe.

    Raises:
        UserError: one is no value of its flag.
    """
    saved, found = checkpoint.saved.options or {}, {}
    groups = [getattr(options, field.name) for field in fields(options) if field.name != GIVEN]
    owners = {field.name: type(group) for group in groups for field in fields(group)}
    for name in [field.name for field in fields(Recipe) if saved.get(field.name) is not None]:
        try:
            found[name] = check_value(owners[name], name, saved[name])
        except ValueError as error:
            raise UserError(f"{checkpoint.path}, whose run has {name} {saved[name]}", str(error),
                            "choose another checkpoint") from error
    return found
