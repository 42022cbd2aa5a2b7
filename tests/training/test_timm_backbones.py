"""Backbones of timm: any of its convolutional networks, with their licence, and no network."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import hub

from edge.bundle.loading import load_bundle
from export.cli import main as export_model
from tests.support.small_training import batch
from training.checkpoint import load_checkpoint
from training.cli import main
from training.components.backbones import (
    build_backbone,
    find_weights,
    load_weights,
    weights_identity,
)
from training.components.feature_extractor import IMAGENET_MEAN, FeatureExtractor
from training.errors import SettingError, WeightsError

NAME = "timm:test_efficientnet.r160_in1k"


def tiny_weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build_backbone(NAME).state_dict()


def test_layers_are_chosen_by_depth_and_read_as_the_network_was_trained() -> None:
    network: Any = build_backbone("timm:test_convnext")
    extractor = FeatureExtractor(network, ("layer2", "layer3"))
    assert network.pretrained_cfg["mean"] != IMAGENET_MEAN

    planes = (batch(1).permute(0, 3, 1, 2).flip(1) / 255.0 - 0.5) / 0.5
    with torch.inference_mode():
        maps = network.stages[1](network.stages[0](network.stem(planes)))
        assert torch.allclose(extractor(batch(1))[0], maps, atol=1e-4)
    assert maps.shape[2:] == (8, 8)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("timm:resnet_18", r"does not exist: timm .*Did you mean .*timm:resnet18"),
        ("timm:hf-hub:someone/model", "does not exist"),
        ("timm:local-dir:/tmp", "does not exist"),
        ("timm:resnet18.of_mine", r"no weights 'of_mine' of resnet18\. There are: .*a1_in1k"),
        ("timm:swin_tiny_patch4_window7_224", "Choose a convolutional network"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(name: str, cause: str) -> None:
    with pytest.raises(SettingError, match=cause):
        build_backbone(name)


def test_a_transformer_has_no_layers_of_other_depths() -> None:
    with pytest.raises(SettingError, match="layer 'layer2' does not exist in VisionTransformer"):
        FeatureExtractor(build_backbone("timm:test_vit"), ("layer2",))


def test_a_size_that_a_network_does_not_take_is_named_with_the_nearest() -> None:
    extractor = FeatureExtractor(build_backbone("timm:test_maxvit"), ("layer2",))
    with pytest.raises(SettingError, match=r"The nearest size that it takes: --image-size 160\."):
        extractor.feature_shapes(192, 192)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.components.timm_backbones.find_spec", lambda _: None)
    with pytest.raises(SettingError, match=r"pip install 'inspection-station\[timm\]'"):
        build_backbone(NAME)


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


def test_weights_are_fetched_only_where_that_is_asked_for(
    hub_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    content = save(tiny_weights())

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    try:
        with pytest.raises(WeightsError, match=r"neither in the cache .* --weights download"):
            find_weights(NAME, "cache")
        assert (asked, weights_identity(NAME, "cache")) == ([], "")
        weights = find_weights(NAME, "download")
    finally:
        server.shutdown()
        server.server_close()

    assert asked == ["/timm/test_efficientnet.r160_in1k/resolve/main/model.safetensors"]
    assert "apache-2.0 (test_efficientnet.r160_in1k of timm" in weights.licence
    network = build_backbone(NAME)
    load_weights(network, weights, network.state_dict().keys())
    assert [file.name for file in hub_folder.iterdir()] == [
        "timm-test_efficientnet.r160_in1k.safetensors"
    ]
    assert len(weights_identity(NAME, "cache")) == 64


def test_a_fit_with_timm_becomes_a_bundle_that_names_the_licence(
    tmp_path: Path, data: Path
) -> None:
    weights, fitted = tmp_path / "w.safetensors", tmp_path / "m.safetensors"
    save_file(tiny_weights(), weights)
    fit = ["fit", "--data", str(data), "--backbone", NAME, "--weights", str(weights)]
    # Converted in half the time that others take.
    fit += ["--algorithm", "dfm", "--image-size", "64", "--validate-on", "test"]
    fit += ["--no-report", "-o", str(fitted)]
    assert main(fit) == 0
    assert load_checkpoint(fitted).description.backbone == NAME

    bundle = tmp_path / "m.xml"
    int8 = ["--precision", "int8", "--max-auroc-drop", "0.5", "--max-verdict-flips", "0.5"]
    assert export_model([str(fitted), "-o", str(bundle), *int8]) == 0
    manifest = load_bundle(bundle).manifest
    assert (manifest.identity.backbone, manifest.precision.weights) == (NAME, "int8")
    assert manifest.identity.weights_licence.startswith("apache-2.0 (of test_efficientnet")
