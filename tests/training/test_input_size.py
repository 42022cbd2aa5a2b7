"""A fit says where images are squeezed, and which tiles would help."""

from pathlib import Path

import pytest

from edge.bundle.manifest import Crop
from tests.support.small_training import good_image, write
from tests.training.conftest import fit_arguments
from training.cli import main
from training.data.loading import first_sight
from training.input_size import size_advice


def test_a_fit_of_narrow_images_names_a_tile_that_works(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        write(tmp_path / "parts" / f"{number}.png", good_image(number, 310, 125))
    quick = ["--no-report", "--no-check-good"]
    arguments = fit_arguments(tmp_path / "parts", weights, tmp_path / "a.safetensors", *quick)
    assert main(arguments) == 0
    assert caplog.text.count("images of 125×310 pixels are squeezed out of shape to 64×64") == 1
    assert "--tile 125 inspects them in 3 tiles" in caplog.text
    caplog.clear()
    assert main([*arguments, "--tile", "125"]) == 0
    assert "squeezed" not in caplog.text


@pytest.mark.parametrize(
    ("frame", "crop", "told"),
    [
        ((1240, 500), None, "500×1240 pixels are squeezed out of shape to 256×256, 2.0 times"),
        ((1240, 500), Crop(x=0, y=0, width=500, height=500), None),
        ((900, 900), None, None),
        ((480, 640), None, None),
        ((2000, 2000), None, "2000×2000 pixels are shrunk to 256×256, 7.8 times across"),
        ((12, 40), None, "40×12 pixels are squeezed out of shape"),
    ],
)
def test_advice_is_given_where_images_lose_much(
    frame: tuple[int, int], crop: Crop | None, told: str | None
) -> None:
    found = size_advice(frame, first_sight((256, 256), crop=crop), 0.25, True)
    assert (found is None) if told is None else (told in (found or ""))


def test_an_algorithm_without_tiles_is_said_to_have_none() -> None:
    advice = size_advice((1240, 500), first_sight((256, 256)), 0.25, False)
    assert "--tile 500 inspects them in 3 tiles" in (advice or "")
    assert "this algorithm takes no tiles" in (advice or "")
