"""The demo's backbone: small enough to be committed inside a bundle, trained by this project."""

from torch import Tensor, nn

# What the network is trained to tell apart (see ``training.data.pasted_defects``); its features are
# what the anomaly models use, the classes themselves are not.
CLASSES = 8


class SmallBackbone(nn.Module):
    """A residual network of three stages with strides 4, 8 and 16 and at most 350,000 parameters.

    Attributes:
        layer1, layer2, layer3: stages with 32, 64 and 128 channels; anomaly models read these.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
        )
        self.layer1 = ResidualBlock(24, 32)
        self.layer2 = ResidualBlock(32, 64)
        self.layer3 = ResidualBlock(64, 128)
        self.head = nn.Conv2d(128, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Classify every cell of 16×16 pixels.

        Args:
            images: ``(N, 3, H, W) float32`` RGB with ImageNet's mean and deviation taken out.

        Returns:
            ``(N, classes, ⌈H/16⌉, ⌈W/16⌉)`` logits.
        """
        return self.head(self.layer3(self.layer2(self.layer1(self.stem(images)))))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions that halve the size, and a 1×1 convolution past them."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.past = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(N, channels_in, H, W)`` to ``(N, channels_out, ⌈H/2⌉, ⌈W/2⌉)``."""
        return self.activation(self.main(maps) + self.past(maps))
