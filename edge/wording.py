"""How messages count: one image looks, three images look."""

# Of good images: one, and several.
SUSPECTS = "good image looks like a defect", "good images look like defects"


def counted(count: int, one: str, several: str | None = None) -> str:
    """Return a count with what is counted, and maybe what that does: ``1 image looks``.

    Args:
        one: of which there is one.
        several: of any other number; None where that is ``one`` with an s.
    """
    return f"{count} {agreeing(count, one, several or f'{one}s')}"


def agreeing(count: int, one: str, several: str) -> str:
    """Return the word that agrees with a count."""
    return one if count == 1 else several
