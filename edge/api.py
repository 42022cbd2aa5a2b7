"""The runtime as a library: inspect arrays and folders with a model bundle, as a station does."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.loading import fallback_sentence, load_bundle
from edge.bundle.manifest import Manifest
from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.replay import find_images
from edge.errors import ImageUnreadable
from edge.imaging.frame import Frame, Pixels
from edge.imaging.image_files import read_image
from edge.inspection.criteria import Limits
from edge.inspection.decision import Reason
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.inspector import Inspection, Inspector
from edge.inspection.self_test import self_test

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InspectionModel:
    """A model bundle that is compiled and has passed its self-test; used by one thread at a time.

    Attributes:
        manifest: what the bundle says of itself: input, threshold, figures.
    """

    manifest: Manifest
    _inspector: Inspector

    def inspect(self, pixels: Pixels) -> Inspection:
        """Inspect one image; raises nothing: what cannot be inspected is an ERROR, never OK.

        Args:
            pixels: ``(H, W, 3) uint8`` BGR or ``(H, W) uint8`` or ``uint16``. Not changed.
        """
        return self._inspector.inspect(
            Frame(pixels=pixels, number=0, captured_ns=0, captured_utc_ns=0)
        )

    def inspect_folder(self, folder: str | Path) -> Iterator[tuple[Path, Inspection]]:
        """Inspect the images of a folder, or of a glob, in natural order.

        An image that cannot be read is an ERROR with the cause in ``detail``. Other files, and
        further pages of a file with several, are logged as warnings.

        Raises:
            CameraUriInvalid: there is no such folder, or no image in it.
        """
        not_inspected = NotInspected(str(folder))
        for path in find_images(str(folder), not_inspected):
            not_inspected.add_further(path)
            try:
                yield path, self.inspect(read_image(path))
            except ImageUnreadable as error:
                yield path, self._inspector.failure(Reason.FRAME_INCOMPLETE, str(error))


def load_model(
    path: str | Path, *, device: str = "CPU", threads: int = 0, limits: Limits = Limits()
) -> InspectionModel:
    """Load, compile and self-test a bundle.

    Args:
        path: of its ``.xml``.
        device: an OpenVINO device.
        threads: of inference; 0 uses every core this process may use.
        limits: threshold, guard band and crop to use instead of the bundle's own.

    Raises:
        BundleError: files are missing, damaged, or give other numbers than at the export.
        ModelError: the network cannot be compiled or run here.
    """
    bundle = load_bundle(Path(path))
    fallback = fallback_sentence(bundle)
    if fallback is not None:
        log.warning("%s", fallback)
    detector = Detector(CompiledModel(bundle, device, RunPlan(threads=threads)))
    self_test(detector, bundle.manifest)
    return InspectionModel(bundle.manifest, Inspector(detector, bundle.manifest, limits))
