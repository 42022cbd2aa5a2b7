"""Sign a bundle, a teacher or settings: ``edge-sign sign bottle.xml --key release.pem``."""

import argparse
import sys
from pathlib import Path

from edge.bundle.signing import ask_password, load_private_key, sign_bundle
from edge.bundle.teacher import load_signable
from edge.errors import StationError
from edge.system.log_output import print_line, write_line
from edge.system.process_start import prepare_process
from edge.yaml_lines import read_settings_file

PROGRAM = "edge-sign"


def main(arguments: list[str] | None = None) -> int:
    """Sign or verify a bundle from the command line; return the exit code."""
    if arguments is None:
        prepare_process()
    options = _parser().parse_args(arguments)
    try:
        if options.command == "sign":
            password = ask_password(options.key)
            print_line(f"{sign_bundle(options.bundle, options.key, password)}: written")
        elif options.command == "settings":
            print_line(_sign_settings(options))
        else:
            bundle = load_signable(options.bundle, options.public_key)
            print_line(f"{options.bundle}: {bundle.manifest.identity.name}, signed and whole")
    except StationError as error:
        write_line(f"{PROGRAM}: {error}")
        return error.exit_code
    return 0


def _sign_settings(options: argparse.Namespace) -> str:
    """Write a part of the settings into one signed file; return what is said of it."""
    # pydantic, numpy and OpenCV, which signing a bundle does not wait for.
    from edge.settings.released_archive import write_settings_archive

    manifest = write_settings_archive(
        options.file,
        read_settings_file(options.settings).values,
        name=options.name,
        version=options.version,
        key=load_private_key(options.key, ask_password(options.key)),
        stations=options.stations,
    )
    keys = [
        f"{section}.{key}" for section in manifest.settings for key in manifest.settings[section]
    ]
    return f"{options.file}: settings {manifest.name} version {manifest.version}, {', '.join(keys)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description="Sign a bundle, a teacher or a release of settings, or check it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sign = commands.add_parser("sign", help="write BUNDLE.sig")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    sign.add_argument("--key", type=Path, required=True, help="ed25519 private key, PEM")
    settings = commands.add_parser("settings", help="a part of the settings, for edge-fleet")
    settings.add_argument("settings", type=Path, metavar="PART.yaml", help="sections and keys")
    settings.add_argument("file", type=Path, metavar="FILE", help="to write")
    settings.add_argument("--name", required=True, help="of the release")
    settings.add_argument("--version", type=int, required=True, help="a newer one has a higher one")
    settings.add_argument("--key", type=Path, required=True, help="ed25519 private key, PEM")
    settings.add_argument(
        "--for",
        dest="stations",
        nargs="+",
        metavar="S/L/S/C",
        help="for these stations alone, + for any name (default: for all)",
    )
    verify = commands.add_parser("verify", help="check hashes and signature")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    verify.add_argument("--public-key", type=Path, required=True, help="ed25519 public key, PEM")
    return parser


if __name__ == "__main__":
    sys.exit(main())
