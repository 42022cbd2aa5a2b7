"""Backbones and their weights: by name, from a file, never silently from the network."""

import ast
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, hub

from tests.support.small_training import small_weights
from training.components.backbones import (
    Weights,
    backbone_names,
    build_backbone,
    find_weights,
    load_weights,
    models,
)
from training.errors import SettingError, WeightsError


def resnet_weights() -> dict[str, Tensor]:
    return build_backbone("resnet18").state_dict()


@pytest.mark.parametrize("name", ["small", "resnet18", "wide_resnet50_2", "efficientnet_b0"])
def test_backbones_are_found_by_name(name: str) -> None:
    assert name in backbone_names()


@pytest.mark.parametrize("name", ["resnet19", "RESNET18", "", "mobilnet"])
def test_an_unknown_backbone_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(SettingError, match=r"does not exist.*There are: small, .*resnet18"):
        build_backbone(name)


def test_a_close_name_is_suggested() -> None:
    with pytest.raises(SettingError, match="Did you mean resnet18"):
        build_backbone("resnet_18")


@pytest.mark.parametrize("name", ["fcn_resnet50", "fasterrcnn_resnet50_fpn", "raft_large"])
def test_a_network_that_would_download_a_part_of_itself_is_no_backbone(name: str) -> None:
    with pytest.raises(SettingError, match="does not exist"):
        build_backbone(name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"small{suffix}"
    if suffix == ".pth":
        torch.save(small_weights(), path)
    else:
        save_file(small_weights(), path)
    weights = find_weights("small", str(path), "Apache-2.0")

    assert weights.licence == "Apache-2.0"
    assert all(torch.equal(weights.tensors[k], v) for k, v in small_weights().items())


def test_weights_without_stated_terms_say_so(tmp_path: Path) -> None:
    save_file(small_weights(), tmp_path / "w.safetensors")
    assert find_weights("small", str(tmp_path / "w.safetensors")).licence == "not stated"


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [None, b"", b"no weights", b"\x80\x04K\x01.", bytes(64)])
def test_a_file_that_holds_no_weights_is_named(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}: "):
        find_weights("small", str(path))


@pytest.mark.parametrize("held", [[torch.zeros(2)], {"state_dict": {"a": torch.zeros(2)}}])
def test_a_pth_file_must_hold_tensors_by_name(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: does not hold tensors by name"):
        find_weights("small", str(tmp_path / "w.pth"))


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        find_weights("small", str(tmp_path))


class Opens:
    """Unpickling it would run code."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_reading_weights_runs_no_code(tmp_path: Path) -> None:
    torch.save(Opens(str(tmp_path / "run")), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights") as raised:
        find_weights("small", str(tmp_path / "w.pth"))
    assert not (tmp_path / "run").exists()
    # torch's own words tell how to load it all the same.
    assert "could run a program" in str(raised.value)
    assert "weights_only" not in str(raised.value)


def test_missing_parts_are_fine_where_no_layer_needs_them() -> None:
    tensors = {k: v for k, v in resnet_weights().items() if not k.startswith(("layer4", "fc"))}
    load_weights(build_backbone("resnet18"), Weights(tensors, ""), needed=tensors.keys())


def test_a_missing_tensor_that_a_layer_needs_is_named() -> None:
    tensors = resnet_weights()
    del tensors["layer2.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"lack 'layer2\.0\.conv1\.weight'"):
        load_weights(build_backbone("resnet18"), Weights(tensors, ""), needed=resnet_weights())


def test_weights_of_another_backbone_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"which ResNet does not have .*another"):
        load_weights(build_backbone("resnet18"), Weights(small_weights(), ""), needed=())


def test_a_tensor_of_another_shape_is_named() -> None:
    tensors = {"conv1.weight": torch.zeros(64, 3, 5, 5)}
    with pytest.raises(WeightsError, match=r"conv1\.weight: .*\(64, 3, 5, 5\).*\(64, 3, 7, 7\)"):
        load_weights(build_backbone("resnet18"), Weights(tensors, ""), needed=tensors.keys())


def body() -> list[str]:
    return [key for key in resnet_weights() if not key.startswith(("layer4", "fc"))]


def test_a_classifier_of_other_classes_that_nobody_uses_is_left_out() -> None:
    tensors = resnet_weights() | {"fc.weight": torch.zeros(5, 512), "fc.bias": torch.zeros(5)}
    backbone = build_backbone("resnet18")
    load_weights(backbone, Weights(tensors, ""), needed=body())
    loaded = backbone.state_dict()
    assert loaded["fc.bias"].shape == (1000,)
    assert all(torch.equal(loaded[key], tensors[key]) for key in body())


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.backbone.", "module.encoder."])
def test_names_with_what_a_wrapper_put_in_front_are_understood(prefix: str) -> None:
    tensors = {f"{prefix}{key}": tensor for key, tensor in resnet_weights().items()}
    tensors["head.weight"] = torch.zeros(5, 512)
    backbone = build_backbone("resnet18")
    load_weights(backbone, Weights(tensors, ""), needed=body())
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[key], tensors[f"{prefix}{key}"]) for key in body())


def test_a_wrapped_other_backbone_is_still_another_one() -> None:
    tensors = {f"module.{key}": tensor for key, tensor in small_weights().items()}
    with pytest.raises(WeightsError, match="They belong to another backbone"):
        load_weights(build_backbone("resnet18"), Weights(tensors, ""), needed=body())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(number: float) -> None:
    tensors = {"conv1.weight": torch.full((64, 3, 7, 7), number)}
    with pytest.raises(WeightsError, match=r"conv1\.weight: .*not finite"):
        load_weights(build_backbone("resnet18"), Weights(tensors, ""), needed=())


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchvision's cache, empty, and a download that fails the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "_hub_dir", None)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(hub, "download_url_to_file", refused)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_an_empty_cache_says_which_file_to_put_where_and_asks_no_network(hub_folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth: not in torchvision's cache"):
        find_weights("resnet18", "cache")


@pytest.mark.parametrize("source", ["cache", "download"])
def test_a_damaged_file_in_the_cache_is_refused(hub_folder: Path, source: str) -> None:
    (hub_folder / "resnet18-f37072fd.pth").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="damaged, its SHA-256 does not begin with f37072fd"):
        find_weights("resnet18", source)


def test_a_file_in_the_cache_is_read(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub_folder / "resnet18-f37072fd.pth"
    torch.save({"conv1.weight": torch.ones(1)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = models.get_model_weights("resnet18").DEFAULT
    url = f"https://weights.invalid/resnet18-{digest[:8]}.pth"
    monkeypatch.setattr(type(entry), "url", property(lambda _: url), raising=False)
    path.rename(path.with_name(Path(url).name))

    assert find_weights("resnet18", "cache").tensors["conv1.weight"].item() == 1.0


def test_the_small_backbone_is_not_to_be_had_from_torchvision(hub_folder: Path) -> None:
    with pytest.raises(WeightsError, match="no published weights"):
        find_weights("small", "download")


# A process that has loaded torch, as each of these begins with, and forks itself for each.
LOADED = """
import os, sys
import torch
for line in sys.stdin:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(reading)
        exec(eval(line), {"__name__": "__main__"})
        sys.exit()
    os.close(writing)
    with open(reading) as answer:
        print(repr((answer.read(), os.wait()[1])), flush=True)
"""


@pytest.fixture(scope="module")
def torch_loaded() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LOADED]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as process:
        yield process


RunCode = Callable[[str], str]


@pytest.fixture
def in_new_process(torch_loaded: "subprocess.Popen[str]") -> RunCode:
    def run(code: str) -> str:
        assert torch_loaded.stdin is not None
        assert torch_loaded.stdout is not None
        torch_loaded.stdin.write(f"{code!r}\n")
        torch_loaded.stdin.flush()
        printed, status = ast.literal_eval(torch_loaded.stdout.readline())
        assert status == 0, printed
        return str(printed).strip()

    return run


def test_torchvision_can_be_imported_whatever_torch_it_was_built_for(
    in_new_process: RunCode,
) -> None:
    code = (
        "import training.components.backbones, torchvision;"
        "from torchvision import models;"
        "print(len(models.resnet18(weights=None).state_dict()))"
    )
    assert in_new_process(code) == "122"


def test_torchs_compiler_is_loaded_when_it_is_needed_and_not_before(
    in_new_process: RunCode,
) -> None:
    code = (
        "import sys, training.checkpoint, training.calibrated_fit\n"
        "from torchvision.ops.roi_align import is_compile_supported\n"
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)\n"
        "supported = is_compile_supported('cpu')\n"
        "import torch._dynamo\n"
        "print(supported == torch._dynamo.utils.is_compile_supported('cpu'))\n"
    )
    assert in_new_process(code) == "False False\nTrue"


def test_a_name_that_torchvision_does_not_ask_for_yet_comes_from_the_compiler_itself(
    in_new_process: RunCode,
) -> None:
    code = (
        "import sys\n"
        "from training.components import torchvision_operators as operators\n"
        "with operators._compiler_delayed():\n"
        "    from torch._dynamo import config\n"
        "    print(config.__name__, 'torch._dynamo.symbolic_convert' in sys.modules)\n"
        "import torch._dynamo.utils\n"
        "print(torch._dynamo.utils.__spec__.name)\n"
    )
    assert in_new_process(code) == "torch._dynamo.config True\ntorch._dynamo.utils"


def test_nothing_is_declared_where_the_compiled_library_loads(in_new_process: RunCode) -> None:
    code = (
        "import torch\n"
        "from training.components import torchvision_operators as operators\n"
        "torch.ops.load_library = lambda path: None\n"
        "operators.declare_missing_operators()\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))\n"
    )
    assert in_new_process(code) == "False"


def test_what_is_missing_is_declared_once_and_only_once(in_new_process: RunCode) -> None:
    code = (
        "import torch\n"
        "from training.components import torchvision_operators as operators\n"
        "def refused(path): raise OSError('built for another torch')\n"
        "torch.ops.load_library = refused\n"
        "operators.declare_missing_operators()\n"
        "operators.declare_missing_operators()\n"
        "print(hasattr(torch.ops.torchvision, 'nms'), hasattr(torch.ops.torchvision, 'qnms'))\n"
    )
    assert in_new_process(code) == "True True"
