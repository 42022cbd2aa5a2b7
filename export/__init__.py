"""Export: from a checkpoint to a verified model bundle."""

import edge  # noqa: F401 (switches telemetry off before OpenVINO, NNCF and ONNX Runtime are loaded)
