"""Class maps of pictures that clients send, as PNG in records."""

from __future__ import annotations

import base64
import copy
import io
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data.images import ImageError, decode_image
from data.names import as_text
from drawing.class_maps import grey_map, lay_map, shrink
from inference.explanations import ArtistMaps, Choose
from inference.journal import Record
from inference.predictor import NOT_FINITE, Predictor
from serving.batching import Upload

Form = Literal["overlay", "values"]


class Explainer:
    """Explains one picture at a time, beside the batches of the same predictor; safe to ask from many threads."""

    def __init__(self, predictor: Predictor, *, max_pixels: int) -> None:
        """Take the network's weights, but modules of its own: what is hooked to these, batches do not see.

        Raises:
            UserError: the network has no class maps.
        """
        own = copy.copy(predictor)
        shared = chain(predictor.network.parameters(), predictor.network.buffers())
        own.network = copy.deepcopy(predictor.network, {id(each): each for each in shared})
        own.source = Path("this network")  # clients learn no path of the server
        self.maps, self.max_pixels = ArtistMaps(own), max_pixels

    def choose(self, artist: str) -> Choose:
        """Whom `artist` means: a name, top1 or top3; raises a `UserError` if the network has no such artist."""
        return self.maps.chooser(artist, "artist")

    def explain(self, upload: Upload, choose: Choose, form: Form) -> Record:
        """The record of one picture, with its `name`: `maps`, and the `box` of it that they cover, px; or `error`."""
        record: Record = {"name": as_text(upload.name)}
        try:
            picture = decode_image(upload.name, content=upload.content, max_pixels=self.max_pixels)
        except ImageError as error:
            return {**record, "error": error.reason}
        found = self.maps.find(picture, choose)
        if not (np.isfinite(found.planes).all() and np.isfinite(found.probabilities).all()):
            return {**record, "error": NOT_FINITE}
        small = shrink(picture)
        drawn = [grey_map(plane) if form == "values" else lay_map(small, plane, found.box, picture.size)
                 for plane in found.planes]
        return {**record, "width": picture.width, "height": picture.height, "box": found.box, "maps": [
            {"class_id": number, "class_name": self.maps.classes[number], "probability": share, "image": _address(each)}
            for number, share, each in zip(found.ids, found.probabilities.tolist(), drawn, strict=True)]}


def _address(image: Image.Image) -> str:
    """A PNG as a data: address."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
