"""A teacher that teaches in seconds: the demo's, with a bank of a few vectors."""

import hashlib
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13

from edge.bundle.teacher import BANK, TeacherManifest
from edge.teaching.ir import serialized

DEMO_TEACHER = Path(__file__).parents[2] / "configs" / "demo" / "teacher.xml"
BANK_SIZE = 128


def write_small_teacher(folder: Path) -> Path:
    """Write it, unsigned; return its ``.xml``."""
    manifest = TeacherManifest.model_validate_json(DEMO_TEACHER.with_suffix(".json").read_text())
    model = ov.Core().read_model(DEMO_TEACHER)
    whole, block = manifest.head.bank_size, 64
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.i64:
            continue
        values = node.get_data()
        if values.size == 1 and values.item() == whole - 1:
            smaller = np.full(values.shape, BANK_SIZE - 1, np.int64)
        elif values.ravel()[-2:].tolist() == [whole // block, block]:
            smaller = np.array([*values.ravel()[:-2], BANK_SIZE // block, block], np.int64)
        else:
            continue
        node.output(0).replace(opset13.constant(smaller).output(0))
    model.reshape({BANK: [BANK_SIZE, manifest.head.width]})
    xml, weights = serialized(model)
    head = manifest.head.model_copy(update={"bank_size": BANK_SIZE})
    files = {
        "xml_sha256": hashlib.sha256(xml).hexdigest(),
        "bin_sha256": hashlib.sha256(weights).hexdigest(),
        "xml_bytes": len(xml),
        "bin_bytes": len(weights),
    }
    small = manifest.model_copy(
        update={"head": head, "identity": manifest.identity.model_copy(update=files)}
    )
    path = folder / "teacher.xml"
    path.write_bytes(xml)
    path.with_suffix(".bin").write_bytes(weights)
    path.with_suffix(".json").write_text(small.model_dump_json(indent=2))
    return path
