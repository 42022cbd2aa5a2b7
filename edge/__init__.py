"""The inspection runtime: camera to verdict. Needs none of the training libraries."""

__version__ = "0.1.0"
