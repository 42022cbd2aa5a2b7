"""OpenVINO graphs as bytes: the same graph gives the same."""

from pathlib import Path
from tempfile import TemporaryDirectory

import openvino as ov


def serialized(model: ov.Model) -> tuple[bytes, bytes]:
    """Return the ``.xml`` and the ``.bin`` of a graph, whose operations are named anew."""
    # Automatic names count up through the process, whatever it converted before.
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    with TemporaryDirectory() as folder:
        xml = Path(folder) / "model.xml"
        ov.save_model(model, xml, compress_to_fp16=False)
        return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
