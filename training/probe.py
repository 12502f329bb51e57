"""A linear probe: a classifier fitted to the features of a network whose weights stay as they are."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from data.loaders import EvalBatches, make_loader
from data.train_val import first_names
from evaluation.evaluator import evaluate_loader
from evaluation.features import FeatureMeter
from model.layers import NormLinear
from runtime.logbook import Logbook
from runtime.networks import Architecture, WithFeatures, feature_blocks
from runtime.options import FeatureKind, ProbeOptions, TrainerOptions
from runtime.processes import on_first_rank
from search.standardisation import block_scale
from training.engine import Run
from utils import UserError, counted

STRENGTHS = (1, 10, 100, 1000)  # inverse strengths of regularisation, C, that are compared
FOLDS = 3
MOST_ROWS = 20_000  # pictures that C is chosen on
# Flags of the training loop, or of the mixing of its batches, that are in no group of their own.
LOOP = {"freeze_backbone", "save_every", "save_steps", "eval_every", "grad_checkpointing", "resume", "eval", "head",
        "head_init", "recipe"}
MIXING = {"smoothing", "mixup", "cutmix", "mixup_prob", "mixup_switch_prob"}


# ---- the run ---------------------------------------------------------------------------------------------------------


def check_probe(options: TrainerOptions, probe: ProbeOptions) -> None:
    """Raise a `UserError` if flags of the training loop, or of a resumed run, are given with --linear-probe."""
    groups: list[Any] = [options.optimizing, options.distillation, getattr(options, "long_tail", None),
                         options.augmentation]
    useless = {field.name for group in groups if group for field in fields(group)} | LOOP
    if probe.probe_views != 0:
        useless -= {field.name for field in fields(options.augmentation)} - MIXING
    for name in sorted(useless & options.given):
        raise UserError(f"--{name.replace('_', '-')} with --linear-probe, which trains nothing but the classifier",
                        "flags of a probe", "leave one of the two away")


def probe_architecture(architecture: Architecture, kind: FeatureKind) -> Architecture:
    """The architecture whose classifier reads features of `kind` of the given one, without a projection of its own."""
    arguments = {key: value for key, value in architecture.model_args.items() if key != "style_head"}
    if kind == "pooled":
        return replace(architecture, model_args=arguments)
    arguments.pop("feature_dim", None)
    return replace(architecture, model_args={**arguments, "style_head": kind})


def fit_probe(run: Run, views: int, logbook: Logbook, epoch: int) -> None:
    """Fit the classifier of `run` to the training pictures, evaluate it and write the run's files.

    Args:
        run: at its beginning; its network has the weights that stay, or with which training begins.
        views: augmented views of each training picture, besides the picture itself.
        logbook: of the run.
        epoch: 1 ends the run of a linear probe, 0 is where training begins.

    Raises:
        UserError: see `fit_head`.
    """
    network = run.state.network
    found = [_collect(run, view, views + 1, logbook) for view in range(views + 1)]
    if len({len(features) for features, _ in found}) > 1:
        raise UserError("pictures that could be read the first time only", "pictures that stay",
                        "check the disk and start again")
    features, targets = np.stack([features for features, _ in found]), found[0][1]
    kind: FeatureKind = run.architecture.model_args.get("style_head") or "pooled"
    blocks = feature_blocks(network, kind)
    if sum(blocks) != features.shape[2]:  # a projection mixes them
        blocks = [features.shape[2]]
    head = on_first_rank(lambda: fit_head(features, targets, run.train_set.classes, blocks))
    set_classifier(network, head)
    logbook.log(f"linear probe on {features.shape[2]} numbers ({kind} features) of "
                f"{counted(features.shape[1], 'picture')}{_describe_views(views)}, C = {head.strength:g}")
    run.finish_probe(logbook, epoch)


def _describe_views(views: int) -> str:
    return f" and {counted(views, 'augmented view')} of each" if views else ""


def _collect(run: Run, view: int, views: int, logbook: Logbook) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and targets of the training pictures as evaluation sees them (view 0), or augmented."""
    dataset = copy.copy(run.train_set)
    if view == 0:
        dataset.transform = run.val_set.transform
    loading = run.train_batches.loading
    batches = EvalBatches(len(dataset), loading, seed=(run.options.seed, view) if view else None)
    meter = FeatureMeter()
    evaluate_loader(WithFeatures(run.state.network), make_loader(dataset, batches, loading), meter, run.placement,
                    logbook, title=f"features {view + 1}/{views}")
    return meter.collect()


@torch.no_grad()
def set_classifier(network: Any, head: LinearHead) -> None:
    """Give the classifier of `network`, one linear layer with or without a norm before it, the weights of `head`.

    Raises:
        UserError: it is another kind of layer.
    """
    found = network.get_classifier()
    for classifier in found if isinstance(found, tuple) else (found,):
        weight, bias = head.weight * head.scale, head.bias - (head.weight * head.scale) @ head.mean
        if isinstance(classifier, NormLinear):  # the norm standardises, so that training can go on from here
            variance = torch.from_numpy(head.deviation**2)
            classifier.bn.running_mean.copy_(torch.from_numpy(head.mean))  # type: ignore[union-attr]  # it has them
            classifier.bn.running_var.copy_(variance)  # type: ignore[union-attr]  # as above
            classifier.bn.weight.copy_(torch.from_numpy(head.scale) * (variance + classifier.bn.eps).sqrt())
            classifier.bn.bias.zero_()
            classifier, weight, bias = classifier.l, head.weight, head.bias
        if classifier.weight.numel() != weight.size or classifier.bias is None:
            raise UserError(f"the classifier of {type(network).__name__}, which is not one linear layer",
                            "a network with one", "take --feature-kind both, or another --model")
        classifier.weight.copy_(torch.from_numpy(weight).reshape(classifier.weight.shape))
        classifier.bias.copy_(torch.from_numpy(bias))


# ---- the classifier --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier of standardised features.

    Attributes:
        mean: (D,) float64, subtracted from features.
        scale: (D,) float64, by which they are then multiplied.
        deviation: (D,) float64, theirs on the pictures.
        weight: (classes, D) float64, of standardised features.
        bias: (classes,) float64.
        strength: the C that cross-validation chose.
    """

    mean: np.ndarray
    scale: np.ndarray
    deviation: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    strength: int


def fit_head(views: np.ndarray, targets: np.ndarray, classes: Sequence[str], blocks: Sequence[int]) -> LinearHead:
    """Logistic regression with the C of the least log loss in cross-validation within these pictures.

    All classes count alike, however many pictures they have. Several labels per picture are told one against the rest.
    The views of a picture are never on both sides of a fold, and only the first is asked about.

    Args:
        views: features (V, N, D): of the pictures as evaluation sees them, then of augmented ones.
        targets: classes (N,) int64, or presence of labels (N, classes).
        classes: names.
        blocks: see `block_scale`.

    Raises:
        UserError: a feature is not finite.
    """
    if not np.isfinite(views).all():
        raise UserError("features that are not finite", "finite ones", "check the weights the probe begins with")
    mean, scale = block_scale(views[0], blocks)
    rows = ((views - mean) * scale).astype(np.float32)
    strength = choose_strength(rows, targets)
    weight, bias = _fit(rows, targets, strength, len(classes))
    return LinearHead(mean, scale, views[0].std(axis=0, dtype=np.float64), weight, bias, strength)


def check_counts(counts: np.ndarray, classes: Sequence[str]) -> None:
    """Raise a `UserError` if one of `classes` has fewer than two of `counts` training pictures, (classes,) int64."""
    if few := [name for name, count in zip(classes, counts, strict=True) if count < 2]:
        raise UserError(f"fewer than two readable training pictures of {first_names(few)}", "two of each for a probe",
                        "add pictures, or leave out the artist")


def choose_strength(rows: np.ndarray, targets: np.ndarray) -> int:
    """The C among `STRENGTHS` of the least log loss on held-out folds; arguments as of `fit_head`, standardised."""
    from sklearn.model_selection import KFold, StratifiedKFold
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(rows.shape[1])[:MOST_ROWS])
    rows, targets = rows[:, chosen], targets[chosen]
    count = min(FOLDS, int(np.bincount(targets).max())) if targets.ndim == 1 else min(FOLDS, len(targets))
    if count < 2:  # one picture of each class: nothing to compare on
        return STRENGTHS[0]
    folds = (StratifiedKFold if targets.ndim == 1 else KFold)(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer pictures than folds
        splits = list(folds.split(rows[0], targets if targets.ndim == 1 else None))
    losses = [sum(_log_loss(rows, targets, train, test, strength) for train, test in splits) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]


def _log_loss(rows: np.ndarray, targets: np.ndarray, train: np.ndarray, test: np.ndarray, strength: float) -> float:
    """Sum of the log losses of `test` pictures, each class counting alike, after fitting to `train` pictures."""
    weight, bias = _fit(rows[:, train], targets[train], strength, targets.max() + 1)
    logits = rows[0, test] @ weight.T + bias
    if targets.ndim == 1:
        highest = logits.max(axis=1)
        total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        losses = total - logits[np.arange(len(test)), targets[test]]
        return float((losses / np.bincount(targets)[targets[test]]).sum())
    return float((np.logaddexp(0, logits) - logits * (targets[test] > 0)).sum())


def _fit(rows: np.ndarray, targets: np.ndarray, strength: float, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight (classes, D) and bias (classes,) of a logistic regression on all views (V, N, D).

    A class that a fold leaves without pictures gets a constant logit, the log of a share below one picture's.
    """
    from sklearn.linear_model import LogisticRegression
    features = rows.reshape(-1, rows.shape[2])
    repeated = np.tile(targets, (len(rows),) + (1,) * (targets.ndim - 1))
    if targets.ndim == 1:
        weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, np.log(0.5 / (len(features) + 1)))
        if (repeated == repeated[0]).all():
            bias[repeated[0]] = 0
            return weight, bias
        model = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced")
        model.fit(features, repeated)
        # Of two classes scikit-learn keeps the difference.
        signs = np.array([[-0.5], [0.5]] if len(model.classes_) == 2 else [[1.0]])
        weight[model.classes_], bias[model.classes_] = signs * model.coef_, np.ravel(signs * model.intercept_)
        return weight, bias
    found = [_fit_label(features, present, strength) for present in (repeated > 0).T]
    return np.stack([weight for weight, _ in found]), np.array([bias for _, bias in found])


def _fit_label(features: np.ndarray, present: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weight (D,) and bias of one label against the rest; of a label that all pictures have or none, its frequency."""
    from sklearn.linear_model import LogisticRegression
    if present.all() or not present.any():
        share = (present.sum() + 0.5) / (len(present) + 1)
        return np.zeros(features.shape[1]), float(np.log(share / (1 - share)))
    model = LogisticRegression(C=strength, max_iter=1000).fit(features, present)
    return model.coef_[0], float(model.intercept_[0])
