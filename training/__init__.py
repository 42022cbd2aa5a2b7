"""Training: data sets, algorithms, fits and their reports."""

import edge  # noqa: F401 (switches telemetry off before torch and Lightning are loaded)
