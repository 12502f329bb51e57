"""What inference is asked for: its modes, and the request that one run answers. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from evaluation.calibration import Calibration
    from evaluation.gallery_verdicts import GalleryVerdicts
    from search.gallery_search import Search
    from search.vectors import FeatureSpace

ModeName = Literal["classify", "cluster", "both", "search"]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What a value of --mode means: the content of records, and the files of a folder."""

    name: ModeName
    names_artists: bool = False  # of the network's classes
    writes_features: bool = False  # in records, and for a folder in files of their own
    needs_gallery: bool = False  # whose pictures and artists are named


MODES: dict[str, Mode] = {mode.name: mode for mode in (
    Mode(name="classify", names_artists=True),
    Mode(name="cluster", writes_features=True),
    Mode(name="both", names_artists=True, writes_features=True),
    Mode(name="search", needs_gallery=True),
)}


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """What the records of one run contain.

    Attributes:
        mode: which parts.
        top_k: artists, and pictures of a gallery, per record.
        threshold: least probability of an artist that is named, 0 to 1.
        calibration: of the network; adds calibrated probabilities and verdicts.
        space: whose features the records hold, and which; None where that does not matter.
        gallery: where the gallery is, if `mode` needs one.
        search: the search in that gallery.
        verdicts: of that gallery, where it was calibrated.
    """

    mode: Mode
    top_k: int = 5
    threshold: float = 0.0
    calibration: Calibration | None = None
    space: FeatureSpace | None = None
    gallery: str | None = None
    search: Search | None = None
    verdicts: GalleryVerdicts | None = None

    def identity(self) -> dict[str, Any]:
        """Plain Python that tells this request from others, for about.json of a journal."""
        values: dict[str, Any] = {"mode": self.mode.name, "top_k": self.top_k, "threshold": self.threshold,
                                  "calibration": self.calibration.as_plain() if self.calibration else None}
        if self.space and self.space.feature_kind != "pooled":  # journals of earlier versions know no other kind
            values["features"] = self.space.feature_kind
        if self.search:
            values |= {"gallery": str(self.gallery), "in it": self.search.gallery.pictures,
                       "neighbours": self.search.neighbours}
        if self.verdicts:
            values["calibration"] = self.verdicts.calibration.as_plain()
        return values
