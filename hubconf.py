"""Every preset for `torch.hub`.

Example: torch.hub.load("path/to/this/folder", "lsnet_t_artist", source="local", num_classes=12)
"""

from model.lsnet import *  # noqa: F403 - the presets, which timm's register_model lists in __all__
from model.lsnet_artist import *  # noqa: F403

dependencies = ["torch", "timm"]
