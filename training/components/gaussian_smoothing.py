"""Bilinear enlargement and Gaussian blur of an anomaly grid as two small matrix products."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge.bundle.manifest import MapScore


class GaussianSmoothing(nn.Module):
    """Enlarge a grid bilinearly to image size, blur it with G(sigma), reflect at the borders.

    Both steps are linear and separable, so they are one matrix A per axis: ``A_h · grid · A_wᵀ``.
    That is exact, and cheap enough to stay in the exported graph. ``at_grid`` gives the same smooth
    map sampled at the cells' own centres, which is what the runtime receives.

    Attributes:
        peak: how the highest value of the smooth map follows from ``at_grid``.
    """

    rows: Tensor
    columns: Tensor
    grid_rows: Tensor
    grid_columns: Tensor

    def __init__(
        self, grid: tuple[int, int], image: tuple[int, int], sigma_px: float = 4.0
    ) -> None:
        """Build the matrices.

        Args:
            grid: rows and columns of the anomaly grid.
            image: height and width of the model input in pixels.
            sigma_px: of the blur, in pixels of the model input.
        """
        super().__init__()
        self.peak = MapScore(cells=1, sigma_px=sigma_px)
        for name, cells, pixels in (
            ("rows", grid[0], image[0]),
            ("columns", grid[1], image[1]),
        ):
            smooth = _blur(pixels, sigma_px) @ _enlarge(cells, pixels)
            # Derived from the settings: not part of a checkpoint.
            self.register_buffer(name, smooth.float(), persistent=False)
            at_centres = _enlarge(pixels, cells) @ smooth
            self.register_buffer(f"grid_{name}", at_centres.float(), persistent=False)

    def forward(self, grid: Tensor) -> Tensor:
        """Return the ``(N, H, W)`` smooth map of an ``(N, h, w)`` grid."""
        return self.rows @ grid @ self.columns.T

    def at_grid(self, grid: Tensor) -> Tensor:
        """Return the smooth map at the cells' centres, ``(N, h, w)``."""
        return self.grid_rows @ grid @ self.grid_columns.T


def _enlarge(size: int, target: int) -> Tensor:
    """Return the ``(target, size)`` matrix of linear interpolation, half-pixel centres."""
    eye = torch.eye(size, dtype=torch.float64)[:, None, :]
    return F.interpolate(eye, size=target, mode="linear", align_corners=False)[:, 0, :].T


def _blur(size: int, sigma_px: float) -> Tensor:
    """Return the ``(size, size)`` matrix of a Gaussian blur with reflected borders."""
    radius = min(int(4.0 * sigma_px + 0.5), size - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel /= kernel.sum()
    eye = torch.eye(size, dtype=torch.float64)[:, None, :]
    padded = F.pad(eye, (radius, radius), mode="reflect")
    return F.conv1d(padded, kernel[None, None, :])[:, 0, :].T
