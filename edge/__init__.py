"""The inspection runtime: camera to verdict. Needs none of the training libraries."""

from edge.system.no_telemetry import switch_off_telemetry

__version__ = "0.2.0"

switch_off_telemetry()  # before any library that would phone home
