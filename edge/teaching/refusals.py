"""Why nothing is taught: each kind of cause has words of the page, in all of its languages."""

from typing import Literal

from edge.errors import ConfigurationError, StationError

RefusalKind = Literal[
    # Of a session.
    "unnamed",
    "taught_by_other",
    "not_begun",
    "releasing",
    "not_taught_here",
    "taught_image_gone",
    "nothing_marked",
    "enough",
    "no_part_comes",
    "no_such_image",
    "no_reference",
    "building",
    "views_off",
    "no_images",
    "no_candidate",
    "no_reason",
    "struck_since",
    "version_since",
    # Of a build.
    "unusable_images",
    "part_not_found",
    "reference_blank",
    "reference_region",
    "reference_ambiguous",
    "one_image",
    "views_and_mask",
    "all_strange",
    "memory",
    "too_long",
    "ended",
    "disk",
]


class TeachingRefused(StationError):
    """Images that nothing can be taught with; names the files."""

    exit_code = 65

    def __init__(self, *lines: str, kind: RefusalKind, **data: str | int) -> None:
        super().__init__(*lines)
        self.kind, self.data = kind, data


class TeachingNotPossible(ConfigurationError):
    """What was asked of teaching cannot be done now; cause and next step."""

    def __init__(self, sentence: str, *, kind: RefusalKind, **data: str | int) -> None:
        super().__init__(sentence)
        self.kind, self.data = kind, data
