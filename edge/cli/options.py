"""The options of edge-run."""

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

import edge
from edge.bundle.bounds import MAX_SCALE_SHARE

PROGRAM = "edge-run"
MODBUS_TABLE_FORMATS = ("csv", "markdown", "plcopen", "st")
LEVELS = ("debug", "info", "warning", "error")
# What --teach --from says for the station's camera.
LIVE = "camera"
# How many, where nobody says.
CAPTURED = 50
ROWS = 20
ROUNDS = 3
TAUGHT = 500
THREADS = 2


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        PROGRAM,
        description="Inspect every part that a camera sees, and say OK or not.",
        epilog="Verdicts go to the broker of --mqtt, or to standard output as JSON lines. "
        "Logs go to standard error.",
    )
    made.add_argument(
        "--camera",
        metavar="URI",
        help="folder, glob, image or video file; watch://FOLDER; gige://…, usb3://…; 0, "
        "/dev/v4l/by-id/NAME; rtsp://…, http://…",
    )
    made.add_argument("--model", metavar="BUNDLE.xml", help="model made by export-model")
    made.add_argument(
        "--config",
        metavar="STATION.yaml",
        type=Path,
        help="settings; options on the command line take precedence",
    )
    made.add_argument("--mqtt", metavar="mqtt://HOST:PORT", help="publish to this broker")
    made.add_argument(
        "--station", metavar="SITE/LINE/STATION/CAMERA", help="name of this station in topics"
    )
    made.add_argument("--save", metavar="DIR", help="write an overlay image of every part")
    made.add_argument(
        "--show", action="store_true", help="open a window with the overlay of every part"
    )
    made.add_argument(
        "--rate", metavar="FPS", type=float, help="frames per second of images from files"
    )
    made.add_argument(
        "--once",
        action="store_true",
        help="inspect each image once and end; with a live camera, one frame",
    )
    _add_actions(made.add_mutually_exclusive_group())
    _add_action_options(made)
    made.add_argument("--log-level", choices=LEVELS, default="info")
    made.add_argument("--version", action="version", version=f"{PROGRAM} {edge.__version__}")
    return made


def _add_actions(group: "argparse._MutuallyExclusiveGroup") -> None:
    """What to do instead of inspecting."""
    group.add_argument(
        "--check", action="store_true", help="validate settings and model, print them, open nothing"
    )
    group.add_argument(
        "--doctor",
        action="store_true",
        help="check camera, network, disks, broker, model and this PC; each line says "
        "good, or what to do; changes nothing",
    )
    group.add_argument(
        "--list-cameras",
        action="store_true",
        help="list the cameras that are found, with their URIs",
    )
    group.add_argument(
        "--settings-template",
        action="store_true",
        help="print a station.yaml with every key, its default and what it means",
    )
    group.add_argument(
        "--settings-schema",
        action="store_true",
        help="print the JSON Schema of a station.yaml, with which editors check and complete it",
    )
    group.add_argument(
        "--modbus-table",
        metavar="FORMAT",
        choices=MODBUS_TABLE_FORMATS,
        help="print the Modbus registers as csv, markdown or plcopen (PLCopen XML); st "
        "prints a function block for the PLC in structured text",
    )
    group.add_argument(
        "--make-token",
        metavar="FILE",
        type=Path,
        help="write a new token for hmi.token_file, readable by its owner only",
    )
    group.add_argument(
        "--capture",
        metavar="DIR",
        type=Path,
        help="write training images into DIR/good, with exactly the station's settings",
    )
    group.add_argument(
        "--journal",
        metavar="DIR",
        nargs="?",
        const="",
        help="show the newest records of the journal in DIR (default: that of the settings)",
    )
    group.add_argument(
        "--backup",
        metavar="FILE",
        type=Path,
        help="write the station into one file: settings, model, recipes, what was set at the page, "
        "and the journal's numbers",
    )
    group.add_argument(
        "--restore",
        metavar="FILE",
        type=Path,
        help="restore what --backup wrote, with the settings at --config; nothing is overwritten",
    )
    group.add_argument(
        "--recipe",
        metavar=("ACTION", "NAME"),
        nargs="+",
        help="manage the recipes in recipes.folder: list; show NAME; add NAME "
        "BUNDLE.xml; use NAME@VERSION; export NAME FILE; import FILE",
    )
    group.add_argument(
        "--teach",
        metavar="NAME",
        help="make a model of a new product from good images, with a teacher; needs no torch",
    )
    group.add_argument(
        "--tune",
        action="store_true",
        help="measure how this PC runs the model best, and save the result beside the settings",
    )
    group.add_argument(
        "--benchmark",
        action="store_true",
        help="measure the frame path and the bare network with this model and camera",
    )
    group.add_argument(
        "--challenge",
        metavar="DIR",
        type=Path,
        help="capability study: inspect known parts, DIR/good and a folder of each defect, again "
        "and again; ends with 1 where the station is not acceptable",
    )


def _add_action_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n",
        dest="count",
        metavar="COUNT",
        type=_positive,
        help=f"images to capture (default {CAPTURED}), records of the journal to show "
        f"(default {ROWS}), or images to teach with at most (default {TAUGHT})",
    )
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=_seconds,
        default=0.0,
        help="with --capture, and --teach --from camera: shortest time between two images",
    )
    parser.add_argument(
        "--lamp-test",
        action="store_true",
        help="with --doctor: switch each digital output for half a second, one after the "
        "other; stop the line first",
    )
    _add_teaching(parser.add_argument_group("with --teach"))
    study = parser.add_argument_group("with --challenge")
    study.add_argument(
        "--rounds",
        metavar="COUNT",
        type=_positive,
        default=ROUNDS,
        help=f"how often each part is shown (default {ROUNDS})",
    )
    study.add_argument(
        "--present",
        action="store_true",
        help="show the parts to the station's camera, which asks for each; otherwise the "
        "images of DIR are inspected",
    )
    study.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="folder of the report, JSON and HTML (default: the current one)",
    )
    study.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        help="ed25519 private key, PEM, that signs the report, the taught bundle, or what "
        "--recipe exports",
    )
    backup = parser.add_argument_group("with --backup and --restore")
    backup.add_argument(
        "--with-keys", action="store_true", help="include passwords, tokens and private keys"
    )
    backup.add_argument(
        "--allow",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="allow restoring files into this folder, too; may be repeated",
    )
    recipe = parser.add_argument_group("with --recipe, and --teach")
    recipe.add_argument("--recipes", metavar="DIR", type=Path, help="instead of recipes.folder")
    recipe.add_argument(
        "--images", action="store_true", help="include the images that it was taught with"
    )
    recipe.add_argument(
        "--as-published",
        action="store_true",
        help="export without the threshold, mask and zones that were set for it at the page of the "
        "station of --config",
    )
    recipe.add_argument(
        "--settings",
        dest="product_settings",
        metavar="FILE",
        type=Path,
        help="YAML with the settings of the product (camera.crop, camera.sensor, "
        "decision), for a recipe that is added or taught",
    )
    recipe.add_argument(
        "--mask", metavar="FILE", type=Path, help="mask of the product, as decision.mask"
    )
    recipe.add_argument(
        "--for",
        dest="stations",
        metavar="S/L/S/C",
        nargs="+",
        help="export for these stations only; + stands for any name (default: all stations)",
    )
    journal = parser.add_argument_group("with --journal")
    journal.add_argument("--csv", metavar="FILE", type=Path, help="write all records as CSV")
    journal.add_argument(
        "--verify",
        action="store_true",
        help="verify the hash chain, and compare it with the witness beside it",
    )
    journal.add_argument(
        "--head",
        metavar="HASH",
        type=_chain_head,
        help="with --verify: also find this head of the chain, as reported in the state "
        "or kept by edge-listen",
    )
    journal.add_argument("--kind", choices=("verdict", "event"))
    journal.add_argument("--result", choices=("OK", "NOK", "NOT_DECIDABLE", "ERROR"))
    journal.add_argument("--part", metavar="ID", help="only records of this part or image file")
    journal.add_argument("--from-seq", metavar="SEQ", type=int)
    journal.add_argument("--to-seq", metavar="SEQ", type=int)
    journal.add_argument("--since", metavar="UTC", type=_utc_ns, help="2026-01-31T23:59 or a day")
    journal.add_argument("--until", metavar="UTC", type=_utc_ns)
    journal.add_argument(
        "--waiting", action="store_true", help="only records that the broker does not have yet"
    )


def _add_teaching(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--from",
        dest="source",
        metavar="DIR",
        type=Path,
        help="folder of good images of the product, of which at most -n are used, evenly "
        "chosen; camera captures -n images with the station's camera (--config)",
    )
    group.add_argument(
        "--teacher",
        metavar="TEACHER.xml",
        type=Path,
        help="made by export-model --teacher (default: teach.teacher of the settings)",
    )
    group.add_argument(
        "-o",
        "--output",
        metavar="BUNDLE.xml",
        type=Path,
        help="bundle to write (default: a new version of the recipe NAME)",
    )
    group.add_argument(
        "--views",
        action="store_true",
        help="learn up to 8 images turned, flipped and shifted, too, for parts in any orientation",
    )
    group.add_argument(
        "--align",
        choices=["none", "shift", "shift+rotation", "full-rotation"],
        help="find the part in every frame first: shifted, turned by up to 45 degrees, or turned "
        "by any angle (default: as in the recipe's version in force, else none)",
    )
    group.add_argument(
        "--reference",
        type=Path,
        metavar="IMAGE",
        help="image that shows the part for --align (default: the most typical good one)",
    )
    group.add_argument(
        "--roi",
        metavar="X,Y,W,H",
        type=_region,
        help="region of the part in the reference (default: found automatically)",
    )
    group.add_argument(
        "--scale",
        metavar="SHARE",
        type=_scale,
        help="share by which the part may be larger or smaller than in the reference, at most "
        "0.1 (default 0: as large)",
    )
    group.add_argument(
        "--no-check-good",
        action="store_true",
        help="treat all images as good, even those that look like defects",
    )
    group.add_argument(
        "--threads",
        metavar="COUNT",
        type=_positive,
        default=THREADS,
        help=f"cores that teaching uses (default {THREADS}), at low priority",
    )


def _region(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(one.strip().isdecimal() for one in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a region X,Y,W,H in whole pixels")
    region = tuple(int(one) for one in numbers)
    if not all(region[2:]):
        raise argparse.ArgumentTypeError(f"{text!r} is a region without width or height")
    return region


def _scale(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= MAX_SCALE_SHARE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a share from 0 to {MAX_SCALE_SHARE:g}, by which a part may be larger "
            "or smaller"
        )
    return share


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _chain_head(text: str) -> bytes:
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the head of a hash chain: give the 64 hexadecimal digits of "
            "the state's journal.head, or of edge-listen"
        )
    return bytes.fromhex(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= 86_400.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def _utc_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        nanoseconds = round(moment.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        nanoseconds = -1
    if not 0 <= nanoseconds < 2**63:  # what the journal holds: until the year 2262
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time in UTC: write 2026-01-31T23:59, or a day as 2026-01-31"
        )
    return nanoseconds
