"""Limits of an image that can show a part; apart from their check, whose kernels load slowly."""

from dataclasses import dataclass

from edge.imaging.frame import Box


@dataclass(frozen=True, slots=True)
class ReferenceRegion:
    """A place of the frame that looks the same with every part, such as a piece of the fixture.

    Attributes:
        box: in frame pixels, at least 16 on each side.
        min_mean, max_mean: limits of its mean grey level, 0 to 255.
    """

    box: Box
    min_mean: float
    max_mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Grey levels, 0 to 255, of an image that can show a part.

    Attributes:
        min_mean, max_mean: of the whole image that the network sees.
        min_contrast: between its lowest and its highest sample.
        light_level, min_light_share: a darker image shows a part in a dark field, where nearly all
            is black, if that share of its samples is so light; with a share of 1 none does.
        reference: a region that must keep its level; None for none.
    """

    min_mean: float = 4.0
    max_mean: float = 251.0
    min_contrast: int = 8
    light_level: int = 32
    # More than a few hot pixels with the cap on.
    min_light_share: float = 0.0005
    reference: ReferenceRegion | None = None
