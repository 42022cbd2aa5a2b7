"""Features: the same as torchvision's own preprocessing gives, of layers that exist."""

import numpy as np
import pytest
import torch

from tests.support.small_training import batch
from training.components.backbones import build_backbone, models
from training.components.feature_extractor import FeatureExtractor
from training.errors import SettingError


def resnet() -> models.ResNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.resnet18(weights=None).eval()


def test_bgr_images_give_the_features_of_torchvisions_own_preprocessing() -> None:
    from torchvision.transforms import v2 as transforms  # after the missing operators are declared

    network, images = resnet(), batch(2)
    preset = models.ResNet18_Weights.DEFAULT.transforms()
    rgb = torch.from_numpy(np.ascontiguousarray(images.numpy()[..., ::-1]))
    planes = transforms.ToDtype(torch.float32, scale=True)(rgb.permute(0, 3, 1, 2))
    normalized = transforms.Normalize(preset.mean, preset.std)(planes)
    with torch.inference_mode():
        stem = network.maxpool(network.relu(network.bn1(network.conv1(normalized))))
        first = network.layer1(stem)
        second = network.layer2(first)
        found = FeatureExtractor(network, ("layer1", "layer2"))(images)

    assert torch.allclose(found[0], first, atol=1e-4)
    assert torch.allclose(found[1], second, atol=1e-4)


def test_features_come_in_the_order_in_which_layers_are_named() -> None:
    extractor = FeatureExtractor(resnet(), ("layer3", "layer1"))
    assert extractor.feature_shapes(64, 96) == [(256, 4, 6), (64, 16, 24)]


def test_images_are_not_changed() -> None:
    images = batch(2)
    FeatureExtractor(resnet(), ("layer1",))(images)
    assert torch.equal(images, batch(2))


def test_the_part_after_the_last_layer_is_left_out() -> None:
    names = FeatureExtractor(resnet(), ("layer1", "layer2")).body.state_dict()
    assert not any(name.startswith(("layer3", "layer4", "fc")) for name in names)
    assert any(name.startswith("layer2") for name in names)


def test_nothing_of_the_network_is_trained() -> None:
    extractor = FeatureExtractor(resnet(), ("layer1",))
    assert not extractor.training
    assert not any(p.requires_grad for p in extractor.body.parameters())


@pytest.mark.parametrize("layer", ["layer1.1", "layer1.0.relu", "layer2.0.downsample.1"])
def test_a_part_of_a_layer_may_be_named(layer: str) -> None:
    assert len(FeatureExtractor(resnet(), (layer,)).feature_shapes(64, 64)) == 1


@pytest.mark.parametrize("layer", ["layer9", "x", "", "layer"])
def test_an_unknown_layer_is_refused_with_those_that_exist(layer: str) -> None:
    with pytest.raises(SettingError, match=r"does not exist in ResNet\. .*layer1, layer2, layer3"):
        FeatureExtractor(resnet(), ("layer1", layer))


@pytest.mark.parametrize("layers", [(), ("layer1", "layer1")])
def test_layers_are_named_once_each(layers: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="Name each layer once"):
        FeatureExtractor(resnet(), layers)


def test_a_layer_that_gives_no_map_is_refused() -> None:
    with pytest.raises(SettingError, match=r"layer 'fc' gives \(1000,\), not a feature map"):
        FeatureExtractor(resnet(), ("fc",)).feature_shapes(64, 64)


def test_a_size_that_the_network_does_not_take_is_named() -> None:
    network = build_backbone("vit_b_16")
    extractor = FeatureExtractor(network, ("encoder.layers.encoder_layer_0",))
    with pytest.raises(
        SettingError, match=r"256×192 pixels \(Wrong image height! Expected 224"
    ) as refused:
        extractor.feature_shapes(192, 256)
    assert "The nearest size that it takes: --image-size 224." in str(refused.value)
