"""export-model writes the next version of a recipe, beside those taught at the station."""

from pathlib import Path

import cv2
import pytest

from edge.bundle.loading import load_bundle
from edge.cli.main import main as edge_run
from edge.cli.teach import TeachCommand, run_teach
from edge.recipes.content import RecipeCamera, RecipeContent, RecipeSensor
from edge.recipes.folder import RecipeFolder
from edge.recipes.taught import read_taught
from export.cli import main as export_model
from tests.edge.bundle.test_signature import make_keys
from tests.support.recipes import copied_bundle
from tests.support.small_teacher import write_small_teacher
from tests.support.small_training import good_image, write_weights
from training.cli import main as train_station

USAGE, CONFIGURATION = 2, 78


def exported(checkpoint: Path, recipes: Path, name: str, *more: str) -> int:
    words = [str(checkpoint), "--precision", "fp32", "--recipes", str(recipes), "--name", name]
    return export_model([*words, *more])


def test_a_taught_recipe_is_fitted_larger_exported_into_its_list_used_and_left_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, recipes = tmp_path / "images", tmp_path / "recipes"
    images.mkdir()
    for number in range(6):
        cv2.imwrite(str(images / f"{number}.png"), good_image(number, 128, 128))

    def recipe(*words: str) -> str:
        assert edge_run(["--recipe", *words, "--recipes", str(recipes)]) == 0
        return capsys.readouterr().out

    taught = TeachCommand(
        name="너트",
        source=images,
        teacher=write_small_teacher(tmp_path),
        output=None,
        recipes=recipes,
        count=None,
        views=False,
        check_good=False,
        threads=1,
        key=None,
        password=None,
        public_key=None,
    )
    run_teach(taught, print)  # edge-run --teach, which would lower the priority of all tests
    capsys.readouterr()
    recipe("use", "너트@1")

    larger = tmp_path / "larger.safetensors"
    weights = str(write_weights(tmp_path / "small.safetensors"))
    fit = ["fit", "--data", str(recipes / "너트"), "--backbone", "small", "--weights", weights]
    fit += ["--algorithm", "dfm", "--image-size", "64", "--no-report", "--no-check-good"]
    assert train_station([*fit, "-o", str(larger)]) == 0
    assert exported(larger, recipes, "너트") == 0
    assert "recipe 너트 version 2, not in force. Put it in force: " in capsys.readouterr().out

    assert recipe("list") == "너트: version 1*, 2\n"
    recipe("use", "너트@2")
    assert recipe("list") == "너트: version 1, 2*\n"
    assert "exported from larger.safetensors" in recipe("show", "너트")
    recipe("use", "너트@1")
    assert recipe("list") == "너트: version 1*, 2\n"

    folder = RecipeFolder(recipes)
    first, second = (folder.load("너트", version) for version in (1, 2))
    assert (read_taught(first.folder) is not None, read_taught(second.folder)) == (True, None)
    manifest = load_bundle(second.model).manifest
    assert (manifest.identity.name, manifest.identity.backbone) == ("너트", "small")
    assert manifest.seen_images is not None
    assert manifest.seen_images.fitted.count + manifest.seen_images.calibrated.count >= 6


def test_a_version_is_signed_keeps_the_camera_and_says_what_it_sees_otherwise(
    any_checkpoint: Path, bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipes = RecipeFolder(tmp_path / "recipes")
    camera = RecipeCamera.model_validate(
        {"crop": {"x": 1, "y": 2, "width": 30, "height": 40}, "sensor": {"exposure_us": 900}}
    )
    recipes.publish(RecipeContent(name="nut", version=1, camera=camera), copied_bundle(bundle))
    recipes.put_in_force("nut", 1)
    private, public = make_keys(tmp_path)

    assert exported(any_checkpoint, recipes.path, "nut", "--key", str(private)) == 0

    version = recipes.load("nut", 2)
    assert load_bundle(version.model, public).manifest.identity.name == "nut"
    assert version.content.camera == RecipeCamera(sensor=RecipeSensor(exposure_us=900))
    assert "version 2 has another crop than recipe nut version 1" in caplog.text
    assert recipes.in_force("nut") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a/b", "holds U+002F"),
        ("..", "begins with '.'"),
        ("너트" * 17, "at most 100 are allowed"),
        ("", "is empty"),
    ],
)
def test_a_name_that_no_recipe_has_is_refused_before_the_export(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(tmp_path / "none.safetensors", tmp_path / "recipes", name) == CONFIGURATION
    assert says in capsys.readouterr().err
    assert not (tmp_path / "recipes").exists()


def test_what_cannot_be_exported_leaves_nothing_on_offer(
    any_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = tmp_path / "file", tmp_path / "key.pem"
    file.write_text("")
    key.write_text("no key")
    key.chmod(0o600)
    recipes = tmp_path / "recipes"
    assert exported(any_checkpoint, file, "nut") == CONFIGURATION
    assert "is not a folder that recipes can be kept in" in capsys.readouterr().err
    assert exported(any_checkpoint, recipes, "nut", "--key", str(key)) == CONFIGURATION
    assert "not a private key" in capsys.readouterr().err
    assert exported(tmp_path / "none.safetensors", recipes, "nut") != 0
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(any_checkpoint.read_bytes()[:-100])
    assert exported(damaged, recipes, "nut") != 0
    assert RecipeFolder(recipes).listing() == []
    assert [path for path in recipes.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x.safetensors", "--recipes", "r"], "--recipes needs --name NAME"),
        (["x.safetensors", "--name", "nut", "-o", "x.xml"], "--name and --key need --recipes DIR"),
        (
            ["x.safetensors", "--recipes", "r", "--name", "nut", "-o", "x.xml"],
            "-o cannot be combined with --recipes",
        ),
        (["--teacher", "--recipes", "r", "--name", "nut"], "--teacher cannot be combined"),
        (["x.safetensors"], "or --recipes DIR --name NAME"),
    ],
)
def test_one_place_is_written_to(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        export_model(words)
    assert refused.value.code == USAGE
    assert says in capsys.readouterr().err
