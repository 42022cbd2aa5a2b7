"""``train-station``: fit, test and predict on a workstation."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import edge
from training.command_line import run_command

DEVICES = ("cpu", "cuda")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Errors go to standard error without a traceback."""
    parsed = _parser().parse_args(arguments)
    return run_command("train-station", "train", lambda: _run(parsed))


def _run(parsed: argparse.Namespace) -> int:
    # torch takes seconds to import; --help must not wait for it.
    from training.commands import fit, predict, test

    return {"fit": fit, "test": test, "predict": predict}[parsed.verb](parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train-station",
        description="Fit anomaly-detection models from pictures of good parts.",
    )
    parser.add_argument("--version", action="version", version=f"train-station {edge.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_fit(verbs.add_parser("fit", help="fit and calibrate a model"))
    _add_test(verbs.add_parser("test", help="metrics of a checkpoint on a data set"))
    _add_predict(verbs.add_parser("predict", help="scores and heat maps of pictures"))
    return parser


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("--config", type=Path, help="YAML with any of the options below")
    fit.add_argument("--data", type=Path, help="folder: MVTec layout, or good/ and defect/")
    fit.add_argument("--algorithm", help="patchcore or padim (default patchcore)")
    fit.add_argument(
        "--backbone", help="a torchvision classification network, or small (default resnet18)"
    )
    fit.add_argument(
        "--weights", help="FILE (.safetensors, .pth), cache, or download (default cache)"
    )
    fit.add_argument("--weights-licence", help="terms of the weights, kept in the bundle")
    fit.add_argument("--image-size", type=int, metavar="PX", help="model input side (default 256)")
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
        "--levels", type=int, nargs=2, metavar=("BLACK", "WHITE"), help="for 16-bit pictures"
    )
    fit.add_argument(
        "--validate-on",
        choices=["held-out", "test"],
        help="what the threshold rests on (default held-out: never the test pictures)",
    )
    fit.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        default=[],
        help="hyperparameter of the algorithm, for example bank_size=2048",
    )
    fit.add_argument("--seed", type=int, help="for every random choice (default 0)")
    fit.add_argument("--device", choices=DEVICES, help="where to fit (default cpu)")
    fit.add_argument("-o", "--output", type=Path, required=True, help="checkpoint to write")


def _add_test(test: argparse.ArgumentParser) -> None:
    test.add_argument("checkpoint", type=Path)
    test.add_argument("--data", type=Path, required=True)
    test.add_argument("--scores", type=Path, metavar="CSV", help="write every picture's score")
    test.add_argument("--json", type=Path, metavar="FILE", help="write the metrics")
    test.add_argument("--device", choices=DEVICES, default="cpu")


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("checkpoint", type=Path)
    predict.add_argument("pictures", type=Path, nargs="+", help="picture files or folders")
    predict.add_argument("-o", "--output", type=Path, metavar="DIR", help="write heat maps")
    predict.add_argument("--device", choices=DEVICES, default="cpu")


if __name__ == "__main__":
    sys.exit(main())
