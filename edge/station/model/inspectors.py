"""From settings and a bundle to the inspectors of a station."""

from pathlib import Path

from edge.bundle.loading import Bundle
from edge.bundle.mask_file import read_mask_file
from edge.imaging.frame import Box
from edge.inspection.criteria import Limits
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.image_limits import ImageLimits, ReferenceRegion
from edge.inspection.inspector import Inspector
from edge.settings.image import ImageSettings
from edge.settings.station import Settings
from edge.station.model.tuning import default_plan, read_tuning, sound_batches
from edge.system.processor import processor_features


def run_plan(settings: Settings, bundle: Bundle, tuning_file: Path) -> RunPlan:
    """Return how the network uses this PC: as tuned, else a sound default."""
    model, tiled = settings.model, bundle.manifest.input.tile_plan is not None
    tuning = read_tuning(tuning_file, bundle, model.device, model.threads)
    if tuning is None:
        return default_plan(model.objective, tiled, model.threads)
    batches = sound_batches(bundle.manifest, model.device, processor_features())
    return tuning.best(model.objective, tiled, batches)


def make_inspectors(network: CompiledModel, settings: Settings) -> list[Inspector]:
    """Build the inspectors that share a compiled network.

    Streams work on the tiles of one frame; without tiles, on one frame each.
    """
    manifest, limits, plan = network.manifest, station_limits(settings), network.plan
    if manifest.input.tile_plan is not None:
        return [Inspector(Detector(network, plan.streams), manifest, limits)]
    return [Inspector(Detector(network), manifest, limits) for _ in range(plan.streams)]


def station_limits(settings: Settings) -> Limits:
    """Return what the site has set about the decision.

    Raises:
        ConfigurationError: the mask cannot be read.
    """
    decision = settings.decision
    return Limits(
        image_threshold=decision.image_threshold,
        pixel_threshold=decision.pixel_threshold,
        guard_band=decision.guard_band,
        smallest_region_px=decision.smallest_region_px,
        crop=settings.camera.crop,
        areas=None if decision.mask is None else read_mask_file(Path(decision.mask)),
        image=_image_limits(settings.image),
    )


def _image_limits(image: ImageSettings) -> ImageLimits:
    place, reference = image.reference, None
    if place is not None:
        box = Box(place.x, place.y, place.width, place.height)
        reference = ReferenceRegion(box, place.min_mean, place.max_mean)
    return ImageLimits(
        min_mean=image.min_mean,
        max_mean=image.max_mean,
        min_contrast=image.min_contrast,
        light_level=image.light_level,
        min_light_share=image.min_light_share,
        reference=reference,
    )
