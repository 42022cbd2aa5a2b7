"""``python -m export.self_test BUNDLE.xml``: golden scores for a bundle exported without them.

Only the manifest is written anew, with what its own graph says; graph and weights stay. A signature
of the older manifest no longer fits: sign again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.atomic_files import write_whole
from edge.bundle.loading import load_bundle
from edge.errors import StationError
from edge.system.log_output import print_line, write_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the self-test to one bundle; returns the exit code."""
    parser = argparse.ArgumentParser("python -m export.self_test", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    path: Path = parser.parse_args(arguments).bundle

    # OpenVINO and torch; --help does not wait for them.
    from edge.inspection.graph_trial import try_model
    from export.bundle import manifest_text, with_self_test

    try:
        bundle = load_bundle(path)
        try_model(bundle)
        manifest = with_self_test(bundle.manifest, bundle.xml, bundle.weights)
        write_whole(bundle.path.with_suffix(".json"), manifest_text(manifest))
    except StationError as error:
        write_line(f"{parser.prog}: {error}")
        return error.exit_code
    for golden in manifest.self_test:
        print_line(f"{golden.image}: score {golden.score:.6g} ± {golden.tolerance:.2g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
