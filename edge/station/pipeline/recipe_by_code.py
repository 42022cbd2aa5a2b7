"""Which recipe inspects a part whose code names one: with its trigger, and never against it."""

from dataclasses import replace

from edge.inspection.decision import Reason
from edge.station.pipeline.code_reading import PartCode
from edge.station.pipeline.work import QueuedFrame

Refusal = tuple[Reason, str]


def choose_recipe_by_code(
    exposure: QueuedFrame, code: PartCode
) -> tuple[QueuedFrame, Refusal | None]:
    """Return a part with the recipe that its code names, and why nothing may inspect it.

    Whoever triggers and who made the code must agree: one of them is wrong about the part, and
    nobody here knows who. Of a recipe that both name, the version counts that was in force when the
    trigger came.
    """
    part, named = exposure.part, code.recipe
    asked = part.recipe if part is not None and part.names_recipe else None
    if asked is not None and named is not None:
        if asked.id == named.id:
            return exposure, None
        return exposure, (
            Reason.RECIPE_MISMATCH,
            f"the trigger asks for {asked}, but the code on the part names {named}. Check which "
            "part was there, and who names the wrong recipe.",
        )
    if code.refusal:
        return replace(exposure, code_recipe=named), (Reason.RECIPE_MISMATCH, code.refusal)
    return replace(exposure, code_recipe=named), None
