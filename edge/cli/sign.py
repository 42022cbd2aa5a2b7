"""Sign a bundle or a teacher, or check it: ``edge-sign sign bottle.xml --key release.pem``."""

import argparse
import getpass
import sys
from pathlib import Path

from edge.bundle.signing import is_encrypted, sign_bundle
from edge.bundle.teacher import load_signable
from edge.errors import StationError
from edge.system.log_output import print_line, write_line
from edge.system.process_start import prepare_process

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
        else:
            bundle = load_signable(options.bundle, options.public_key)
            print_line(f"{options.bundle}: {bundle.manifest.identity.name}, signed and whole")
    except StationError as error:
        write_line(f"{PROGRAM}: {error}")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM, description="Sign a model bundle or a teacher, or check it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sign = commands.add_parser("sign", help="write BUNDLE.sig")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    sign.add_argument("--key", type=Path, required=True, help="ed25519 private key, PEM")
    verify = commands.add_parser("verify", help="check hashes and signature")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    verify.add_argument("--public-key", type=Path, required=True, help="ed25519 public key, PEM")
    return parser


def ask_password(key: Path) -> bytes | None:
    """Ask for the password of an encrypted key: on the command line everybody could read it."""
    return getpass.getpass(f"password of {key}: ").encode() if is_encrypted(key) else None


if __name__ == "__main__":
    sys.exit(main())
