"""``export-model``: a checkpoint becomes a model bundle for ``edge-run``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import edge
from edge.system.log_output import print_line
from edge.system.process_start import prepare_process
from export.errors import ImportRefused
from export.own_process import in_own_process
from training.command_line import run_command
from training.size_text import parse_sides, size_fault

_MIN_SIDE_PX = 16  # of a bundle
_AUTO = "auto"
_PRECISIONS = (_AUTO, "fp32", "bf16", "fp16", "int8-weights", "int8")


# Backbones that lose nothing to speak of in INT8; of others a teacher is FP32 unless asked for.
_ROUNDS_WELL = "resnet"


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, import or verify one model; returns the exit code."""
    if arguments is None:
        prepare_process()
    parser = _parser()
    parsed = parser.parse_args(arguments)
    sources = [parsed.checkpoint, parsed.from_anomalib, parsed.verify, parsed.teacher or None]
    if sum(source is not None for source in sources) != 1:
        parser.error(
            "give a checkpoint, or --teacher, or --from-anomalib MODEL, or --verify BUNDLE.xml"
        )
    if parsed.verify is not None:
        return run_command("export-model", "export", lambda: _verify(parsed.verify))
    _check_target(parser, parsed)
    if parsed.from_anomalib is not None:
        _refuse_others(parser, parsed)
        return in_own_process(
            lambda: run_command("export-model", "export", lambda: _import(parsed)),
            lambda how: run_command("export-model", "export", lambda: _crashed(parsed, how)),
        )
    if parsed.teacher:
        _check_teacher(parser, parsed)
        return run_command("export-model", "export", lambda: _teacher(parsed))
    if parsed.image_size is not None:
        parser.error(
            "--image-size is only for --from-anomalib and --teacher; a checkpoint has its own"
        )
    if parsed.backbone or parsed.weights or parsed.weights_licence or parsed.set:
        parser.error(
            "--backbone, --weights, --weights-licence and --set are only for --teacher; "
            "a checkpoint has its own"
        )
    if parsed.inference != "f32" and parsed.precision in (_AUTO, "bf16"):
        parser.error(
            f"--inference cannot be combined with --precision {parsed.precision}, which sets it"
        )
    return run_command("export-model", "export", lambda: _export(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="export-model",
        description="Turn a checkpoint of train-station into an OpenVINO model bundle, checked "
        "against torch and ONNX Runtime, and in INT8 against its own verdicts in FP32.",
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help=".safetensors file written by train-station fit"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="NAME.xml",
        help="bundle to write; its folder must exist (or --recipes DIR --name NAME)",
    )
    parser.add_argument(
        "--precision",
        choices=_PRECISIONS,
        help="auto takes the fastest of fp32, bf16 and int8 that passes on this PC; int8 "
        "computes in integers; int8-weights and fp16 are only smaller; bf16 is fp32 computed in "
        "bfloat16 (default auto; int8 with --inference bf16 or --no-fallback; with "
        "--from-anomalib fp32, the graph as it is, and auto with --calibrate-on)",
    )
    parser.add_argument(
        "--inference",
        choices=["f32", "bf16"],
        default="f32",
        help="arithmetic outside of the INT8 parts; the gate uses it, too (default f32)",
    )
    parser.add_argument(
        "--max-auroc-drop",
        type=float,
        default=0.005,
        metavar="SHARE",
        help="largest allowed loss of image AUROC by the precision (default 0.005)",
    )
    parser.add_argument(
        "--max-verdict-flips",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="largest allowed share of images whose verdict changes beyond rounding and "
        "chance (default 0.01; 0 counts every one)",
    )
    parser.add_argument(
        "--calibrate-on",
        type=Path,
        metavar="FOLDER",
        help="good images for the INT8 calibration (default: training images stored in "
        "the checkpoint)",
    )
    parser.add_argument(
        "--judge-on",
        type=Path,
        metavar="DATA",
        help="data set whose images judge the precision, in addition to the validation "
        "images stored in the checkpoint; images that the model has seen are left "
        "out; with --from-anomalib: the other resize",
    )
    parser.add_argument(
        "--no-fallback",
        action="store_true",
        help="write nothing if INT8 is refused (default: an FP16 bundle that says why)",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write NAME.report.md and .json: all precisions compared and timed on this PC",
    )
    parser.add_argument(
        "--onnx", action="store_true", help="also write NAME.onnx, with the same input and output"
    )
    parser.add_argument(
        "--from-anomalib",
        type=Path,
        metavar="MODEL",
        help="import an .xml or .onnx exported by Anomalib, instead of a checkpoint",
    )
    parser.add_argument(
        "--image-size",
        type=_size,
        metavar="WIDTHxHEIGHT",
        help="with --teacher: its input size (default 256x256); with --from-anomalib: "
        "input size of a graph that accepts any (default: the size to which it "
        "resizes)",
    )
    _add_recipe(parser.add_argument_group("a recipe's next version, instead of -o"))
    _add_teacher(parser.add_argument_group("with --teacher"))
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="BUNDLE.xml",
        help="check hashes, self-test and parity of a bundle on this PC; needs no torch",
    )
    parser.add_argument("--version", action="version", version=f"export-model {edge.__version__}")
    return parser


def _add_recipe(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--recipes", type=Path, metavar="DIR", help="folder of recipes, as recipes.folder"
    )
    group.add_argument(
        "--name", help="recipe that gets the next version; it is not in force until it is put so"
    )
    group.add_argument(
        "--key", type=Path, metavar="FILE", help="ed25519 private key, PEM, that signs the bundle"
    )


def _check_target(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Demand one place to write to, and refuse options that it would leave out."""
    if parsed.recipes is None:
        if parsed.name is not None or parsed.key is not None:
            parser.error(
                "--name and --key need --recipes DIR; a bundle that is written with -o is signed "
                "with edge-sign"
            )
        if parsed.output is None:
            parser.error(
                "-o NAME.xml is missing: the bundle to write; or --recipes DIR --name NAME, the "
                "recipe that gets the next version"
            )
        return
    if parsed.name is None:
        parser.error("--recipes needs --name NAME, the recipe that gets the next version")
    given = {
        "-o": parsed.output is not None,
        "--report": parsed.report,
        "--onnx": parsed.onnx,
        "--teacher": parsed.teacher,
        "--from-anomalib": parsed.from_anomalib is not None,
    }
    for option, is_given in given.items():
        if is_given:
            parser.error(
                f"{option} cannot be combined with --recipes. Write a bundle with -o, and add it: "
                "edge-run --recipe add"
            )


def _add_teacher(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--teacher",
        action="store_true",
        help=(
            "make a teacher from a backbone, with which edge-run --teach makes models without torch"
        ),
    )
    group.add_argument("--backbone", metavar="NAME", help="as for train-station fit")
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of the backbone; cache or download: those of torchvision or timm",
    )
    group.add_argument("--weights-licence", metavar="TEXT", help="licence of weights from a file")
    group.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        default=[],
        help="a hyperparameter of patchcore, such as bank_size=2048; may be repeated",
    )


def _check_teacher(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Refuse what is missing, and options that a teacher would leave out."""
    if parsed.backbone is None or parsed.weights is None:
        parser.error("--teacher needs --backbone NAME and --weights FILE, cache or download")
    if parsed.precision not in (None, "int8", "fp32"):
        parser.error(f"--precision {parsed.precision}: a teacher is int8 or fp32")
    given = {
        "--inference": parsed.inference != "f32",
        "--calibrate-on": parsed.calibrate_on is not None,
        "--judge-on": parsed.judge_on is not None,
        "--no-fallback": parsed.no_fallback,
        "--report": parsed.report,
        "--onnx": parsed.onnx,
    }
    for option, is_given in given.items():
        if is_given:
            parser.error(f"{option} cannot be combined with --teacher")


def _teacher(parsed: argparse.Namespace) -> int:
    # torch takes seconds to import; --help must not wait for it.
    from export.teacher import TeacherRequest, export_teacher, summary
    from training.config import parse_assignments

    request = TeacherRequest(
        backbone=parsed.backbone,
        weights=parsed.weights,
        licence=parsed.weights_licence,
        size=parsed.image_size or (256, 256),
        precision=parsed.precision or ("int8" if _ROUNDS_WELL in parsed.backbone else "fp32"),
        hyperparameters=parse_assignments(parsed.set),
    )
    print_line(summary(export_teacher(parsed.output, request), parsed.output))
    return 0


def _export(parsed: argparse.Namespace) -> int:
    # torch takes seconds to import; --help must not wait for it.
    from edge.bundle.manifest import Manifest
    from edge.recipes.folder import use_command
    from export.accuracy_gate import AccuracyBudget
    from export.bundle import ExportRequest, export_bundle, summary
    from export.recipe_version import RecipeTarget, export_version
    from export.variants import ExportPrecision
    from training.checkpoint import load_checkpoint

    of_integers = parsed.inference != "f32" or parsed.no_fallback
    wanted = parsed.precision or ("int8" if of_integers else _AUTO)
    request = ExportRequest(
        precision=None if wanted == _AUTO else ExportPrecision(wanted),
        inference=parsed.inference,
        accuracy=AccuracyBudget(
            auroc_drop=parsed.max_auroc_drop, verdict_flips=parsed.max_verdict_flips
        ),
        calibrate_on=parsed.calibrate_on,
        judge_on=parsed.judge_on,
        fallback=not parsed.no_fallback,
        onnx=parsed.onnx,
        report=parsed.report,
    )

    def write(output: Path) -> Manifest:
        return export_bundle(load_checkpoint(parsed.checkpoint), output, request)

    if parsed.recipes is None:
        print_line(summary(write(parsed.output), parsed.output))
        return 0
    target = RecipeTarget(folder=parsed.recipes, name=parsed.name, key=parsed.key)
    manifest, version = export_version(target, parsed.checkpoint, write)
    print_line(summary(manifest, version.model))
    print_line(f"{version}, not in force. Put it in force: {use_command(version)}")
    return 0


def _import(parsed: argparse.Namespace) -> int:
    # OpenVINO and numba
    from export.accuracy_gate import AccuracyBudget
    from export.anomalib import ImportRequest, import_model
    from export.variants import ExportPrecision

    asked = parsed.precision or ("fp32" if parsed.calibrate_on is None or parsed.report else _AUTO)
    wanted = ImportRequest(
        size=parsed.image_size,
        precision=None if asked == _AUTO else ExportPrecision(asked),
        judge_on=parsed.judge_on,
        calibrate_on=parsed.calibrate_on,
        accuracy=AccuracyBudget(
            auroc_drop=parsed.max_auroc_drop, verdict_flips=parsed.max_verdict_flips
        ),
        report=parsed.report,
    )
    for line in import_model(parsed.from_anomalib, parsed.output, wanted):
        print_line(line)
    return 0


def _crashed(parsed: argparse.Namespace, how: str) -> int:
    raise ImportRefused(
        f"{parsed.from_anomalib}: OpenVINO crashed while reading it ({how}), and "
        "nothing was written. Do not use it: export it again with a recent Anomalib, "
        "and ask where it comes from."
    )


def _size(text: str) -> tuple[int, int]:
    """Return height and width of ``WIDTHxHEIGHT``, or of one number for both.

    Raises:
        ArgumentTypeError: neither, or a size that no bundle may have.
    """
    size = parse_sides(text)
    if size is None or min(size) < _MIN_SIDE_PX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: give WIDTHxHEIGHT or one side in pixels, from {_MIN_SIDE_PX}"
        )
    fault = size_fault(*size)
    if fault is not None:
        raise argparse.ArgumentTypeError(f"{text!r} {fault}")
    return size


def _refuse_others(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Refuse options that an import does not know, before it would leave them out."""
    given = {
        "--inference": parsed.inference != "f32",
        "--no-fallback": parsed.no_fallback,
        "--onnx": parsed.onnx,
    }
    for option, is_given in given.items():
        if is_given:
            parser.error(f"{option} cannot be combined with --from-anomalib")
    if parsed.precision in ("fp16", "int8-weights"):
        parser.error(
            f"--precision {parsed.precision}: an import can be fp32 (as it is), bf16, "
            "int8, or auto, the fastest of these"
        )
    makes_integers = parsed.precision in (None, _AUTO, "int8") or parsed.report
    if parsed.calibrate_on is not None and not makes_integers:
        parser.error("--calibrate-on needs --precision int8 or auto, or --report")


def _verify(bundle: Path) -> int:
    # OpenVINO
    from export.verification import verify

    for line in verify(bundle):
        print_line(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
