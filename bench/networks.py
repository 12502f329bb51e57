"""The networks that are counted and timed: classifiers, detectors and segmenters by the name of their backbone."""

from __future__ import annotations

from torch import nn

from detection import architecture  # noqa: F401 - registers the networks for dense tasks
from runtime.networks import Architecture, check_input_size, make_architecture
from runtime.options import CountedTask
from utils import UserError

USUAL_CLASSES: dict[CountedTask, int] = {"classes": 1000, "boxes": 80, "instances": 80, "semantic": 150}


def create_network(name: str, task: CountedTask, num_classes: int | None, size: tuple[int, int]) -> nn.Module:
    """A network with random weights, in evaluation mode.

    Args:
        name: of the model, or of the backbone.
        task: what it answers; `boxes`, `instances` and `semantic` are LSNet's published detectors, see `detection/`.
        num_classes: of its answer; None: ImageNet's, COCO's or ADE20K's.
        size: height and width of a picture, px.

    Raises:
        UserError: no such model, or it takes no pictures of this size.
    """
    outputs = num_classes or USUAL_CLASSES[task]
    if task != "classes":
        return Architecture(name=name, num_classes=outputs, model_args={"dense_task": task}).create().eval()
    if size[0] != size[1]:
        raise UserError(f"--resolution {size[0]} {size[1]} with --task classes", "one side: classifiers see squares",
                        "leave one number away")
    network = make_architecture(name, outputs, input_size=size[0]).create().eval()
    check_input_size(network, name, size[0])
    return network
