"""``train-station``: from images to a calibrated model, on a workstation."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import edge
from edge.system.process_start import prepare_process
from training.command_line import THRESHOLD_FORMS, run_command
from training.models.registry import ALGORITHMS

DEVICES = ("cpu", "cuda")
LAYOUTS = (
    *("mvtec-ad", "btad", "visa", "kolektor-sdd", "kolektor-sdd2", "cifar10", "shanghaitech"),
    "folder",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Errors go to standard error without a traceback."""
    if arguments is None:
        prepare_process()
    parsed = _parser().parse_args(arguments)
    return run_command("train-station", "train", lambda: _run(parsed))


def _run(parsed: argparse.Namespace) -> int:
    # torch takes seconds to import; --help must not wait for it.
    return int(import_module(f"training.commands.{parsed.verb}").run(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train-station",
        description="Fit anomaly-detection models from images of good parts.",
    )
    parser.add_argument("--version", action="version", version=f"train-station {edge.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_fit(verbs.add_parser("fit", help="fit and calibrate a model"))
    _add_test(verbs.add_parser("test", help="metrics of a checkpoint on a data set"))
    _add_predict(verbs.add_parser("predict", help="scores and heat maps of images"))
    _add_calibrate(verbs.add_parser("calibrate", help="thresholds from new images, no new fit"))
    _add_benchmark(verbs.add_parser("benchmark", help="a table of algorithms and data sets"))
    _add_sweep(verbs.add_parser("sweep", help="search for good hyperparameters"))
    return parser


def _add_fit(fit: argparse.ArgumentParser) -> None:
    _add_fit_options(fit)
    fit.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write")
    fit.add_argument(
        "--report", type=Path, metavar="HTML", help="report (default: beside the checkpoint)"
    )
    fit.add_argument("--no-report", action="store_true", help="write no report")
    _add_check_options(
        fit, "end with an error if a good image of the fit or of the validation looks like a defect"
    )


def _add_fit_options(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("--config", type=Path, help="YAML with any of the options below")
    fit.add_argument(
        "--data",
        type=Path,
        action="append",
        help="folder of the data set; may be repeated to add images; an image that is in "
        "several folders counts once, as in the last one",
    )
    _add_data_options(fit)
    fit.add_argument(
        "--algorithm",
        metavar="NAME",
        help=f"one of {', '.join(sorted(ALGORITHMS))}, or a plug-in's (default patchcore); "
        "with fit, auto compares patchcore, dfm, padim and a larger input on these "
        "images",
    )
    fit.add_argument(
        "--backbone",
        help="a torchvision classification network, timm:NAME for one of timm, or small (default "
        "resnet18)",
    )
    fit.add_argument(
        "--weights", help="FILE (.safetensors, .pth), cache, or download (default cache)"
    )
    fit.add_argument("--weights-licence", help="licence of the weights, written into the bundle")
    _add_image_size(fit)
    fit.add_argument(
        "--tile", type=int, metavar="PX", help="inspect large frames in square tiles of this side"
    )
    fit.add_argument(
        "--overlap", type=float, metavar="SHARE", help="least overlap of tiles (default 0.25)"
    )
    fit.add_argument(
        "--crop", type=int, nargs=4, metavar=("X", "Y", "W", "H"), help="region of interest"
    )
    fit.add_argument(
        "--align",
        choices=["shift", "shift+rotation", "full-rotation"],
        help="find the part in every frame first: shifted, turned by up to 45 degrees, or "
        "turned by any angle; it is inspected in the position of the reference",
    )
    fit.add_argument(
        "--reference",
        type=Path,
        metavar="IMAGE",
        help="image that shows the part for --align (default: the most typical good one)",
    )
    fit.add_argument(
        "--roi",
        metavar="X,Y,W,H",
        help="region of the part in the reference (default: found automatically)",
    )
    fit.add_argument(
        "--likeness",
        type=float,
        metavar="SHARE",
        help="lowest similarity to the reference for a part to be found (default: 0.2 "
        "below the lowest of the good images, at least 0.5)",
    )
    fit.add_argument(
        "--outside",
        type=float,
        metavar="SHARE",
        help="share of the part that may lie outside the frame (default 0)",
    )
    fit.add_argument(
        "--scale",
        type=float,
        metavar="SHARE",
        help="share by which the part may be larger or smaller than in the reference, at most "
        "0.1 (default 0: as large)",
    )
    fit.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="areas that are neither learned nor scored: YAML with polygons and zones, or "
        "an image in which everything that is not black is ignored",
    )
    fit.add_argument(
        "--levels", type=int, nargs=2, metavar=("BLACK", "WHITE"), help="for 16-bit images"
    )
    fit.add_argument(
        "--validate-on",
        choices=["held-out", "test"],
        help="images used to set the threshold (default held-out: never the test images)",
    )
    fit.add_argument("--threshold", metavar="METHOD", help=f"{THRESHOLD_FORMS} (default auto)")
    fit.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        default=[],
        help="hyperparameter of the algorithm, for example bank_size=2048",
    )
    fit.add_argument("--seed", type=int, help="seed of every random choice (default 0)")
    fit.add_argument("--device", choices=DEVICES, help="where to fit (default cpu)")
    fit.add_argument(
        "--track",
        action="append",
        metavar="WHERE",
        default=[],
        help="log figures to csv:FILE, tensorboard:FOLDER or wandb:PROJECT (offline)",
    )


def _add_image_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-size",
        type=_number_or_text,
        metavar="WIDTHxHEIGHT",
        help="model input in pixels; one number is a square, auto keeps the shape of the images "
        "with about as many pixels as 256 (auto=PX: as PX); default: auto for images longer than "
        "1.5 : 1, else 256",
    )


def _number_or_text(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) < 10 else text


def _add_check_options(parser: argparse.ArgumentParser, strict: str) -> None:
    parser.add_argument(
        "--confirm-good",
        type=Path,
        action="append",
        metavar="FILE",
        default=[],
        help="this image was checked and is good, even if it looks like a defect; may be "
        "repeated; a .txt file lists one image per line",
    )
    parser.add_argument(
        "--no-check-good",
        action="store_true",
        help="use all good images, even those that look like defects",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help=strict,
    )


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout", choices=LAYOUTS, help="layout of the data set (default: detected)"
    )
    parser.add_argument(
        "--category",
        help=(
            "category of a data set that has several; for a benchmark several, separated by commas"
        ),
    )
    parser.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images that cannot be read, instead of ending with an error",
    )
    parser.add_argument(
        "--synthetic-defects",
        type=int,
        metavar="N",
        help=("paste this many synthetic defects into good images if there are no defective ones"),
    )


def _add_test(test: argparse.ArgumentParser) -> None:
    test.add_argument("checkpoint", type=Path)
    test.add_argument("--data", type=Path, required=True)
    _add_data_options(test)
    test.add_argument("--scores", type=Path, metavar="CSV", help="write every image's score")
    test.add_argument("--json", type=Path, metavar="FILE", help="write the metrics")
    test.add_argument("--report", type=Path, metavar="HTML", help="write the report")
    test.add_argument("--device", choices=DEVICES, default="cpu")


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("checkpoint", type=Path)
    predict.add_argument("images", type=Path, nargs="+", help="image files or folders")
    predict.add_argument("-o", "--output", type=Path, metavar="DIR", help="write heat maps")
    predict.add_argument("--device", choices=DEVICES, default="cpu")


def _add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    calibrate.add_argument("checkpoint", type=Path)
    calibrate.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="folder of new images, which are added to those of the previous calibration; "
        "may be repeated",
    )
    calibrate.add_argument(
        "--replace",
        action="store_true",
        help="calibrate on these images only, without those of the previous calibration",
    )
    calibrate.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="new mask, as with fit; the network stays the same, but all images must be "
        "scored again, so --replace is needed",
    )
    _add_data_options(calibrate)
    calibrate.add_argument(
        "--threshold", metavar="METHOD", default="auto", help=f"{THRESHOLD_FORMS} (default auto)"
    )
    calibrate.add_argument(
        "--validate-on",
        choices=["held-out", "test"],
        default="held-out",
        help="test: use the test images of the data set; figures on them are then optimistic",
    )
    calibrate.add_argument(
        "--all-images",
        action="store_true",
        help="also use the images that the fit's folder keeps apart for tests",
    )
    _add_check_options(
        calibrate,
        "end with an error if a good image, new or of an earlier calibration, scores "
        "far above the others; images of the fit are not checked again",
    )
    calibrate.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write")
    calibrate.add_argument("--histogram", type=Path, metavar="SVG", help="draw the scores")
    calibrate.add_argument("--report", type=Path, metavar="HTML", help="write the report")
    calibrate.add_argument("--device", choices=DEVICES, default="cpu")


def _add_study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--study",
        metavar="URL",
        help="database shared by workstations, for example postgresql://host/name "
        "(default: an SQLite file beside the table)",
    )
    parser.add_argument("--name", help="name of the study (default: that of the table)")
    parser.add_argument(
        "--heartbeat",
        type=int,
        metavar="SECONDS",
        default=10,
        help="seconds between heartbeats of a worker (default 10); another worker takes "
        "over a fit after three times as long without one",
    )


def _add_benchmark(benchmark: argparse.ArgumentParser) -> None:
    benchmark.add_argument("--config", type=Path, help="YAML with options of the fits")
    benchmark.add_argument(
        "--data", type=Path, action="append", default=[], help="data set; may be repeated"
    )
    _add_data_options(benchmark)
    benchmark.add_argument(
        "--algorithms", metavar="NAMES", default="patchcore", help="separated by commas"
    )
    benchmark.add_argument("--backbones", metavar="NAMES", default="resnet18")
    benchmark.add_argument("--weights", help="FILE, cache, or download (default cache)")
    _add_image_size(benchmark)
    benchmark.add_argument(
        "--seeds", metavar="NUMBERS", default="0", help="one fit each (default 0)"
    )
    benchmark.add_argument("--validate-on", choices=["held-out", "test"])
    benchmark.add_argument(
        "--set", action="append", metavar="ALGORITHM.NAME=VALUE", default=[], help="hyperparameter"
    )
    benchmark.add_argument("--device", choices=DEVICES)
    benchmark.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the checkpoint of every fit made here"
    )
    benchmark.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="CSV",
        default=Path("build/benchmark.csv"),
        help="table to write, with a .md and an .svg beside it (default build/benchmark.csv)",
    )
    _add_study_options(benchmark)


def _add_sweep(sweep: argparse.ArgumentParser) -> None:
    _add_fit_options(sweep)
    sweep.add_argument(
        "--search",
        action="append",
        metavar="NAME=WHERE",
        default=[],
        help=(
            "parameter range to search, for example bank_size=256..4096:log or image_size=128|256"
        ),
    )
    sweep.add_argument("--trials", type=int, help="total number of fits (default 20)")
    sweep.add_argument(
        "--objective",
        help="metric of the validation images to maximize (default image_auroc)",
    )
    sweep.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="CSV",
        default=Path("build/sweep.csv"),
        help="table to write, with a .md and an .svg beside it (default build/sweep.csv)",
    )
    _add_study_options(sweep)


if __name__ == "__main__":
    sys.exit(main())
