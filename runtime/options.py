"""Every flag that commands share, declared once: a field with its default, limits and help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from data.images import DEFAULT_MAX_PIXELS
from data.multilabel.grammar import DEFAULT_DELIMITER, LabelFormat, LabelGrammar
from data.multilabel.label_files import LabelledFolder, read_folder_labels, read_label_files
from data.output_folder import check_apart
from runtime.arguments import GIVEN, as_config, flag, flag_name
from utils import UserError

FeatureKind = Literal["pooled", "style", "both"]
BackendName = Literal["torch", "onnx", "openvino"]
ResultFormat = Literal["json", "jsonl", "csv"]
CountedTask = Literal["classes", "boxes", "instances", "semantic"]
DEFAULT_CLUSTERS, MOST_CLUSTERS_TRIED = 8, 100
COMPONENTS = 128  # principal components of standardised features
NEIGHBOURS = 20  # pictures of a gallery that vote
LARGEST_SIDE, LARGEST_DIM = 4096, 65536  # of a network's input, px; of its features: what readers of checkpoints take
MOST_WORKERS = 1024  # processes
TASK_HELP = ("what the network names: the class of a picture; or, with the model as backbone, boxes (RetinaNet), "
             "instances (Mask R-CNN) or the class of each pixel (semantic, Semantic FPN)")
REPEATS = 3  # of a picture in an epoch with repeated augmentation


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Model."""

    model: str | None = flag(None, "preset of model/, or any model of timm (without it: that of the resumed "
                                   "checkpoint, else lsnet_t_artist)", metavar="NAME", common=True)
    input_size: int | None = flag(None, "side of the square input, px (default: the preset's own)", at_least=32,
                                  at_most=LARGEST_SIDE, names=("--img-size",), common=True)
    feature_dim: int | None = flag(None, "length of the feature vector, made by a projection layer (default: the "
                                         "backbone's width, no projection)", at_least=1, at_most=LARGEST_DIM)
    use_projection: bool | None = flag(None, "require a projection layer, or none (default: as --feature-dim needs)",
                                       names=("--projection",))
    pretrained: bool = flag(False, "start from the published weights of --model (timm's, or LSNet's for ImageNet), "
                                   "downloaded once; flags that are not given are then chosen by the number of "
                                   "pictures, and printed (not in main.py)", common=True)
    head: Literal["linear", "style"] | None = flag(
        None, "what the classifier reads: the pooled last stage (linear), or also mean and standard deviation over "
              "the picture of the middle stages' outputs (style) (default: style with --pretrained and for weights "
              "without artists, else linear, or that of --finetune-from)")
    drop_path_rate: float | None = flag(None, "stochastic depth: probability of dropping the last block, rising "
                                              "linearly from 0 at the first (default: 0)", at_least=0, below=1,
                                        names=("--drop-path",))


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Data."""

    data_path: Path = flag(MISSING, "folder of the pictures: train/ and val/ with one folder per artist or class in "
                                    "each (prepare_dataset.py makes them); for train_artist_style.py also one folder "
                                    "per artist, which it splits; with annotations the folder that their paths are "
                                    "relative to")
    batch_size: int = flag(32, "pictures per process and step", at_least=1, common=True)
    num_workers: int | None = flag(None, "processes that decode pictures; 0 decodes in the training process (default: "
                                         "0 on a CPU of up to 4 cores, where training is faster that way, else 2)",
                                   at_least=0, at_most=MOST_WORKERS, names=("--workers", "-j"))
    pin_mem: bool = flag(True, "page-locked memory for faster copies to a CUDA device")
    fit: Literal["crop", "pad", "squash"] | None = flag(
        None, "how an oblong picture becomes square: cut its long side, pad its short side with white, or stretch it "
              "(default: crop)")
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more pixels count as damaged", at_least=1)


@dataclass(frozen=True, kw_only=True)
class FolderSearchOptions:
    """Which files of a folder."""

    exclude: tuple[str, ...] = flag((), "files and folders to ignore, upper or lower case: patterns for names, such "
                                        "as *_small.* or drafts, or for paths below the folder, such as drafts/*",
                                    metavar="PATTERN")


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """Augmentation and regularisation."""

    scale: tuple[float, float] = flag((0.25, 1.0), "share of the picture's area in a random crop, smallest and "
                                                   "largest", at_least=1e-3, at_most=1)
    ratio: tuple[float, float] = flag((0.75, 4 / 3), "aspect ratio of a random crop, smallest and largest",
                                      at_least=0.01, at_most=100)
    hflip: float = flag(0.5, "probability of a mirror image", at_least=0, at_most=1)
    color_jitter: float = flag(0.3, "strength of random brightness, contrast and saturation; timm "
                                    "leaves it out where --aa acts", at_least=0, at_most=10)
    aa: str = flag("none", "timm's automatic augmentation, such as rand-m9-mstd0.5-inc1; none turns it off",
                   names=("--auto-augment",))
    reprob: float = flag(0.0, "probability of random erasing", at_least=0, at_most=1)
    smoothing: float = flag(0.1, "label smoothing", at_least=0, below=1, names=("--label-smoothing",))
    mixup: float = flag(0.0, "alpha of mixup; 0 turns it off", zero_or_at_least=1e-3, at_most=1000)
    cutmix: float = flag(0.0, "alpha of cutmix; 0 turns it off", zero_or_at_least=1e-3, at_most=1000)
    mixup_prob: float = flag(1.0, "probability that a batch is mixed at all", at_least=0, at_most=1)
    mixup_switch_prob: float = flag(0.5, "probability of cutmix where both are on", at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class LongTailOptions:
    """Artists with few pictures."""

    sampler: Literal["shuffle", "balanced", "sqrt"] = flag(
        "shuffle", "shuffle: each picture once an epoch; balanced: every artist equally often; sqrt: artists in "
                   "proportion to the square root of their number of pictures")
    logit_adjustment: float = flag(0.0, "weight of the log of each artist's share of the pictures, added to the "
                                        "logits in training: 1 treats all artists alike, 0 turns it off", at_least=0,
                                   at_most=100)
    contrastive_weight: float = flag(0.0, "weight of a supervised contrastive loss on the features; 0 turns it off",
                                     at_least=0, at_most=1000)
    contrastive_temperature: float = flag(0.1, "its temperature", at_least=1e-3, at_most=1000)


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Linear probe."""

    linear_probe: bool = flag(False, "train only the classifier: one pass over the pictures, then logistic regression "
                                     "on the features; with --pretrained or --finetune-from", common=True)
    probe_views: int | None = flag(None, "augmented views of each training picture that are added (default: 3 for "
                                         "fewer than 20,000 pictures and a network with weights, else none)",
                                   at_least=0, at_most=1000)
    feature_kind: FeatureKind | None = flag(None, "features that the probe reads: pooled, those of the network's own "
                                                  "classifier; style, mean and standard deviation over the picture of "
                                                  "the middle stages' outputs; or both (default: both, but pooled for "
                                                  "--finetune-from a network trained here)")


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """Many artists on several processes."""

    head_parallel: bool = flag(False, "divide the classifier among the processes: each keeps its artists' rows, with "
                                      "their moments and moving average; for about 100,000 artists or more")
    head_sample_rate: float = flag(1.0, "with --head-parallel, on one process too: share of the artists without a "
                                        "picture in an update that the update reads and changes, drawn anew each time; "
                                        "1 is all", above=0, at_most=1)
    fsdp: bool = flag(False, "divide all weights, gradients, moments and the moving average among the processes "
                             "(torch's fully_shard), for networks that fit on no single GPU with them")


@dataclass(frozen=True, kw_only=True)
class NamedRecipeOptions:
    """Recipe."""

    recipe: Literal["small"] | None = flag(None, "small: defaults that suit a few hundred pictures, for training from "
                                                 "scratch or --finetune-from a distillation: 96 px (from scratch), a "
                                                 "style head, small crops, unchanged colours, all artists weighted "
                                                 "alike, a constant learning rate")


@dataclass(frozen=True, kw_only=True)
class AnnotationOptions:
    """Annotations."""

    train_ann: Path | None = flag(None, "CSV file image_path,labels of the pictures to train on; with --eval, its "
                                        "labels are checked against the checkpoint's", common=True)
    val_ann: Path | None = flag(None, "CSV file image_path,labels of the pictures to validate with", common=True)
    label_delimiter: str = flag(DEFAULT_DELIMITER, "what stands between labels")
    label_format: LabelFormat | None = flag(
        None, "csv: labels between delimiters; danbooru: tags between spaces, parentheses behind backslashes; json: "
              "lists of JSON or pandas (default: csv, but text that looks like another format is refused)")
    skip_invalid: bool = flag(False, "list rows with an error and leave them out, instead of stopping")
    allow_outside: bool = flag(False, "take relative paths that leave --data-path")


@dataclass(frozen=True, kw_only=True)
class MultiLabelOptions:
    """Several artists per picture."""

    loss: Literal["bce", "asl", "focal"] = flag(
        "bce", "how presence is asked for: binary cross-entropy with --pos-weight-cap, the asymmetric loss, or the "
               "focal loss")
    pos_weight_cap: float = flag(100.0, "most that a picture with a label counts in bce; it counts as much as the "
                                        "pictures without the label divided by those with it", at_least=1e-3,
                                 at_most=1_000_000)
    ratio_weight: float = flag(1.0, "factor of the cross-entropy between annotated shares and p / sum(p); 0 turns it "
                                    "off", at_least=0, at_most=1000)
    threshold: float = flag(0.5, "probability from which on a label counts as predicted, in precision, recall and F1",
                            above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """Optimisation."""

    epochs: int = flag(300, "number of epochs", at_least=1, at_most=1_000_000, common=True)
    patience: int = flag(0, "stop after so many evaluations in a row without improvement; 0 trains all --epochs",
                         at_least=0)
    opt: str = flag("adamw", "optimiser, by timm's name")
    sched: Literal["cosine"] = flag("cosine", "schedule of the learning rate; there is no other")
    lr: float = flag(1e-3, "learning rate for 512 pictures per update, see --lr-scaling", at_least=1e-15, at_most=1000)
    lr_scaling: Literal["auto", "linear", "sqrt", "none"] = flag(
        "auto", "how --lr follows the pictures per update, n: in proportion to n/512 (linear) or its square root "
                "(sqrt), not at all (none), or linear above 512 and constant below (auto)")
    layer_decay: float = flag(1.0, "learning rate of each layer as a share of the next layer's; the classifier has "
                                   "--lr", above=0, at_most=1)
    freeze_bn: bool | None = flag(None, "keep the statistics of batch norms and train only their weights (default: "
                                        "with --pretrained or --finetune-from and few pictures)",
                                  names=("--set-bn-eval",))
    weight_decay: float = flag(0.05, "weight decay", at_least=0, at_most=1000)
    warmup_epochs: int = flag(5, "epochs of linear warm-up, at most a tenth of --epochs", at_least=0)
    warmup_lr: float = flag(1e-6, "learning rate at the first update", at_least=0, at_most=1000)
    min_lr: float = flag(1e-5, "learning rate at the end of the cosine", at_least=0, at_most=1000)
    clip_grad: float = flag(1.0, "limit of --clip-mode; 0 turns clipping off", zero_or_at_least=1e-6, at_most=1000)
    clip_mode: Literal["norm", "value", "agc"] = flag(
        "norm", "what is limited: the norm of the gradient, each value, or the norm relative to the weight's (agc, "
                "without the head)")
    accumulation_steps: int = flag(1, "batches whose gradients are added before an update", at_least=1,
                                   names=("--grad-accum-steps",))
    model_ema: bool = flag(True, "keep a moving average of the weights, and evaluate it")
    model_ema_decay: float = flag(0.9998, "its decay per update once warmed up", above=0, below=1)


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """Distillation."""

    teacher_model: str | None = flag(None, "also learn from this network: any model of timm (with --teacher-path if "
                                           "that file does not name its architecture)")
    teacher_path: str | None = flag(None, "the teacher's checkpoint; without it, timm's weights are downloaded")
    distillation_type: Literal["none", "soft", "hard"] | None = flag(
        None, "compare with the teacher's distribution (soft) or take its first choice as label (hard) (default: hard "
              "with a teacher, none without)")
    distillation_alpha: float = flag(0.5, "share of the teacher's loss", at_least=0, at_most=1)
    distillation_tau: float = flag(1.0, "temperature of soft distillation", at_least=0.01, at_most=1000)

    @property
    def kind(self) -> str:
        """`none`, `soft` or `hard`."""
        taught = self.teacher_model is not None or self.teacher_path is not None
        return self.distillation_type or ("hard" if taught else "none")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Run."""

    output_dir: Path = flag(Path("outputs_artist"), "folder for checkpoints and logs", writes="folder", common=True)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps")
    amp: Literal["auto", "bf16", "fp16", "off"] = flag("auto", "precision of training: auto is bf16 on GPUs that "
                                                               "compute it, off (float32) elsewhere")
    channels_last: bool | None = flag(None, "keep channels innermost in memory (default: on the CPU, where LSNet then "
                                            "trains many times faster)")
    compile: bool = flag(False, "compile the network (torch.compile); the first steps take a minute or two")
    grad_checkpointing: bool = flag(False, "compute activations again instead of keeping them: less memory, slower")
    seed: int = flag(42, "seed of the order, the augmentation and the first weights", at_least=0, at_most=2**63 - 1)
    resume: str | None = flag(None, "continue from this checkpoint; auto continues OUTPUT_DIR/checkpoint.pth, or "
                                    "starts a new run if there is none", metavar="CHECKPOINT", common=True)
    accept_changed_data: bool = flag(False, "resume although pictures were removed or added since the run started: "
                                            "the resume is not exact, and the best figure is reset")
    finetune_from: str | None = flag(None, "start from the weights of this checkpoint, folder with config.json, or "
                                           "hf_hub:OWNER/NAME, with its architecture, input size and fit unless flags "
                                           "say otherwise. With other artists the classifier is reset, except for "
                                           "artists in both; everything else as with --pretrained",
                                     metavar="CHECKPOINT")
    class_csv: Path | None = flag(None, "class_mapping.csv of the checkpoint of --finetune-from, or else of --resume; "
                                        "only needed if the file does not name its classes and has no "
                                        "class_mapping.csv beside it", names=("--class-mapping",))
    head_init: Literal["probe", "none"] | None = flag(
        None, "first weights of the classifier: those of a linear probe (probe), or what --pretrained or "
              "--finetune-from leave there (none) (default: probe for a new classifier and few pictures)")
    freeze_backbone: int = flag(0, "train only the classifier in the first N epochs", at_least=0)
    eval: bool = flag(False, "only evaluate the checkpoint of --resume on the validation pictures")
    finetune: bool = flag(False, "evaluate pictures that are stretched to the input size instead of resized and "
                                 "cropped")
    save_every: int = flag(0, "keep a checkpoint_<epoch>.pth every N epochs; 0 keeps none", at_least=0)
    save_steps: int = flag(0, "write checkpoint.pth every N updates too; 0 writes it after epochs only", at_least=0)
    log_every: int = flag(50, "print a line every N updates if the output is no terminal; 0 for none", at_least=0)
    dist_eval: bool = flag(False, "share the evaluation among the processes; the figures are the same")
    eval_every: int = flag(1, "evaluate every N epochs, and after the last", at_least=1)


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """Network and loading."""

    model: str | None = flag(None, "architecture, checked against the checkpoint; only needed if the file does not "
                                   "name it")
    class_csv: Path | None = flag(None, "class_mapping.csv, checked against the checkpoint; only needed if the file "
                                        "does not name its artists and has no class_mapping.csv beside it",
                                  names=("--class-mapping",))
    batch_size: int = flag(32, "pictures per step", at_least=1, common=True)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps", common=True)
    amp: Literal["auto", "bf16", "fp16", "off"] = flag("off", "precision of weights and pictures: off is float32, auto "
                                                              "bf16 on GPUs that compute it and float32 elsewhere")
    compile: bool = flag(False, "compile the network (torch.compile); the first batch takes a minute or two")
    view: Literal["default", "multicrop"] = flag(
        "default", "default: as in validation; multicrop adds five crops at twice the size and averages the answers, "
                   "in six times the time")
    draft: bool = flag(False, "decode a JPEG of over twice the size needed at 1/2, 1/4 or 1/8 of its size: faster, but "
                              "probabilities change, at 224 px by up to 0.1")
    num_workers: int | None = flag(None, "processes that decode pictures; 0 decodes in this one (default: 0 on the "
                                         "CPU, where more would slow down the network, and 2 with a GPU)", at_least=0,
                                   at_most=MOST_WORKERS, names=("--workers", "-j"))
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more pixels count as damaged", at_least=1)


CHECKPOINT = "model_best.pth, a .safetensors file, or a folder with config.json and model.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainedOptions(InferenceOptions):
    """Network and loading."""

    checkpoint: Path = flag(MISSING, CHECKPOINT)


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(InferenceOptions):
    """Network and loading."""

    model: str | None = flag(None, "network for --pretrained, or of a --checkpoint that does not name its "
                                   "architecture; otherwise checked", metavar="NAME", common=True)
    checkpoint: Path | None = flag(None, f"{CHECKPOINT}; with --model also a file of weights alone", common=True)
    pretrained: bool = flag(False, "instead of --checkpoint: the published weights of --model, downloaded once",
                            common=True)
    feature_kind: FeatureKind | None = flag(
        None, "which features: pooled, what the classifier reads; style, mean and standard deviation over the picture "
              "of the middle stages' outputs; or both (default: the gallery's; else pooled for networks trained here, "
              "both for others and for a linear probe)")

    def check_source(self) -> None:
        """Raise a `UserError` unless exactly one network is named."""
        if self.pretrained and self.checkpoint:
            raise UserError("--pretrained with --checkpoint", "one of them", "leave one away")
        if self.pretrained and not self.model:
            raise UserError("--pretrained without --model", "the network whose weights are downloaded",
                            "for example --model lsnet_t_artist --pretrained")
        if not self.pretrained and not self.checkpoint:
            raise UserError("no --checkpoint", "the network that looks at the pictures",
                            "add --checkpoint, or --model NAME --pretrained")


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """What runs the network."""

    backend: BackendName | None = flag(
        None, "torch, or, for a folder of tools/export_model.py as --checkpoint, ONNX Runtime (onnx) or OpenVINO, both "
              "on the CPU (default: torch; for a folder without weights for torch what it was exported for)")


@dataclass(frozen=True, kw_only=True)
class ExpectedNetwork:
    """Accepted from commands for other programs, and checked against the network."""

    num_classes: int | None = flag(None, "classes that the checkpoint tells apart", at_least=1)
    feature_dim: int | None = flag(None, "length of the features that its classifier reads", at_least=1)
    input_size: int | None = flag(None, "side of its input, px", at_least=1, names=("--img-size",))


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Class maps."""

    explain: Path | None = flag(None, "draw a sheet for each picture here: red places speak for the predicted artist "
                                      "more than the picture's mean, blue places less. In a search it shows what the "
                                      "picture has in common with the nearest of the pictures that --neighbour-sheet "
                                      "names", writes="folder", metavar="FOLDER")
    explain_artist: str | None = flag(None, "whose maps: of the first artist, of the first three, or of the one with "
                                            "this name", metavar="top1|top3|NAME")
    explain_arrays: bool = flag(
        False, "write NAME.npz beside each sheet: maps, (artists, H, W) float32, whose mean is what the places add to "
               "the logit (not where the last map is coarse, as in LSNet), artists, probabilities, and box, the "
               "edges in px of what the maps cover")
    explain_grid: bool = flag(False, "also draw the predicted artist of each part of the picture: overlapping tiles, "
                                     "half as wide as its short side, are classified one by one")

    def check(self, sources: Sequence[Path]) -> None:
        """Raise a `UserError` unless sheets may be written for pictures of the folders `sources`."""
        if self.explain:
            check_apart(self.explain, sources)
            return
        for name in ("explain_artist", "explain_arrays", "explain_grid"):
            if getattr(self, name):
                raise UserError(f"{flag_name(name)} without --explain", "both", "add --explain FOLDER")


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Result files."""

    format: ResultFormat = flag(
        "json", "batch_results.json; one JSON object a line, with the picture as image; or a table without features",
        common=True)
    features_format: Literal["npy", "npz"] = flag(
        "npy", "features.npy and image_names.txt, or both in features.npz as features and image_names")


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """A folder of many pictures."""

    resume: bool = flag(False, "continue the unfinished run in the output folder, or start a new one if there is none",
                        common=True)
    shard: str | None = flag(None, "i/n: only part i of n, for n machines; tools/merge_shards.py puts the parts "
                                   "together")


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Several machines, with Ray."""

    ray: str | None = flag(None, "share the folder among workers of a Ray cluster: local starts one on this machine, "
                                 "HOST:PORT is the head of a running one; pictures, checkpoint and this project need "
                                 "the same paths on every machine", metavar="local|ADDRESS")
    ray_workers: int | None = flag(None, "number of workers (default: one per GPU or processor core of the cluster)",
                                   at_least=1, at_most=MOST_WORKERS)


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How to group."""

    num_clusters: int | Literal["auto"] | None = flag(
        None, f"number of groups; auto tries 2 to {MOST_CLUSTERS_TRIED} and takes the one with the highest silhouette "
              f"(default: {DEFAULT_CLUSTERS}, at most a third of the pictures; hdbscan finds its own)", at_least=1,
        common=True)
    algorithm: Literal["kmeans", "minibatch", "hdbscan"] = flag(
        "kmeans", "kmeans; minibatch, its faster form for hundreds of thousands of pictures; or hdbscan, which finds "
                  "dense groups and leaves other pictures out", common=True)
    pca: int | None = flag(None, "group this many principal components of the standardised features (default: up to "
                                 f"{COMPONENTS}, but pooled features as they are)", at_least=1, metavar="N")
    min_cluster_size: int = flag(5, "pictures in the smallest group of hdbscan, or of --num-clusters auto", at_least=2)
    seed: int = flag(0, "seed of k-means' starting points and of the map", at_least=0, at_most=2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class LabelledFolderOptions:
    """Pictures and labels."""

    search: FolderSearchOptions
    input_dir: Path = flag(MISSING, "folder of pictures, each with its labels in a .txt or .caption file of the same "
                                    "name: one a line, or several between delimiters")
    recursive: bool = flag(False, "also search its sub-folders", common=True)
    labels_from: Literal["files", "folders"] = flag(
        "files", "files: each picture's own text file; folders: the first folder below --input-dir, as the one artist "
                 "of the pictures in it and in its sub-folders")
    relative_paths: bool = flag(False, "write paths relative to --input-dir, then the --data-path of training; without "
                                       "it, absolute ones", common=True)
    label_delimiter: str = flag(DEFAULT_DELIMITER, "character between labels, in what is read and written")
    label_format: LabelFormat | None = flag(
        None, "csv: labels between delimiters; danbooru: tags between spaces, parentheses behind backslashes; json: "
              "lists of JSON or pandas (default: csv, but text that looks like another format is refused)")
    normalize_tags: bool = flag(False, "write labels in one form: without backslash escapes, _ in place of spaces")
    skip_invalid: bool = flag(False, "list and leave out pictures whose label file has an error, instead of stopping",
                              common=True)
    overwrite: bool = flag(False, "replace earlier files without asking", common=True)

    @property
    def grammar(self) -> LabelGrammar:
        """How label files are read."""
        return LabelGrammar(delimiter=self.label_delimiter, format=self.label_format, normalize=self.normalize_tags)

    def read(self) -> LabelledFolder:
        """The pictures and their labels; raises a `UserError` if there are none, or a text file has an error."""
        if self.labels_from == "folders":
            return read_folder_labels(self.input_dir, exclude=self.search.exclude)
        return read_label_files(self.input_dir, recursive=self.recursive, grammar=self.grammar,
                                skip_invalid=self.skip_invalid, exclude=self.search.exclude)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is timed."""

    task: CountedTask = flag("classes", TASK_HELP, common=True)
    batch_size: int | None = flag(None, "pictures per batch (default: 32, for --latency 1)", at_least=1, common=True)
    resolution: int = flag(224, "side of the square input, px", at_least=32, at_most=LARGEST_SIDE, common=True)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps", common=True)
    dtype: Literal["float32", "bfloat16", "float16"] = flag(
        "float32", "precision of weights and pictures; with --train that of autocast", common=True)
    channels_last: bool | None = flag(None, "keep channels innermost in memory (default: on the CPU)")
    compile: bool = flag(False, "compile the networks (torch.compile)")
    fuse: bool = flag(True, "fold batch norms and parallel branches first, as inference does; never with --train")
    train: bool = flag(False, "time forward, backward and an AdamW step instead of inference", common=True)
    latency: bool = flag(False, "time single batches, and report milliseconds", common=True)
    rounds: int = flag(20, "turns of each network", at_least=1)
    seconds: float = flag(0.5, "least duration of a turn, s", above=0, at_most=3600)

    @property
    def pictures(self) -> int:
        """Pictures per batch."""
        return self.batch_size or (1 if self.latency else 32)


@dataclass(frozen=True, kw_only=True)
class RetrievalOptions:
    """Retrieval."""

    eval_retrieval: bool = flag(False, "in every evaluation, also measure how well the features find pictures of the "
                                       "same artist; the time grows with the square of the number of pictures")


# ---- trainers ----


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Recipe of ImageNet."""

    repeated_aug: bool = flag(True, f"draw each picture of an epoch {REPEATS} times, with another augmentation each "
                                    f"time; an epoch then sees a {REPEATS}rd of the pictures")
    three_augment: bool = flag(False, "ThreeAugment (grey, solarised or blurred) in place of --aa's policy",
                               names=("--ThreeAugment",))
    train_mode: bool = flag(True, "train in training mode; with --no-train-mode norms keep their statistics and "
                                  "nothing is dropped")


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Evaluation, with --eval."""

    deploy: bool = flag(False, "fold batch norms and parallel branches first")
    inc_path: Path | None = flag(None, "folder of ImageNet-C: corruption/severity/WordNet id")
    ina_path: Path | None = flag(None, "folder of ImageNet-A, where only its 200 classes count")
    inr_path: Path | None = flag(None, "folder of ImageNet-R, where only its 200 classes count")
    insk_path: Path | None = flag(None, "folder of ImageNet-Sketch")
    adversarial: Literal["fgsm", "pgd"] | None = flag(None, "also evaluate on adversarial pictures")
    epsilon: float = flag(1.0, "largest change of a value by --adversarial, in 1/255", at_least=0, at_most=255)


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The flags that every trainer has."""

    model: ModelOptions
    data: DataOptions
    augmentation: AugmentationOptions
    optimizing: OptimizerOptions
    distillation: DistillationOptions
    run: RunOptions
    given: frozenset[str] = frozenset()

    def as_config(self) -> dict[str, Any]:
        """All of them as one flat dict of plain Python, for checkpoints and logs."""
        return as_config(*(getattr(self, field.name) for field in fields(self) if field.name != GIVEN))


@dataclass(frozen=True, kw_only=True)
class FolderTrainerOptions(TrainerOptions):
    """The flags of a trainer on train/ and val/ with one folder per class."""

    search: FolderSearchOptions


@dataclass(frozen=True, kw_only=True)
class ArtistOptions(FolderTrainerOptions):
    """The flags of train_artist_style.py."""

    long_tail: LongTailOptions
    retrieval: RetrievalOptions
    probe: ProbeOptions
    scale: ScaleOptions
    named_recipe: NamedRecipeOptions


@dataclass(frozen=True, kw_only=True)
class MultiLabelTrainerOptions(TrainerOptions):
    """The flags of train_artist_multilabel.py."""

    annotations: AnnotationOptions
    labels: MultiLabelOptions
    probe: ProbeOptions
    named_recipe: NamedRecipeOptions


@dataclass(frozen=True, kw_only=True)
class ImageNetOptions(FolderTrainerOptions):
    """The flags of main.py."""

    recipe: RecipeOptions
    robustness: RobustnessOptions
