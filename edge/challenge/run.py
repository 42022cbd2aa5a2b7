"""edge-run --challenge: from settings and a folder of reference parts to a judged report."""

import hashlib
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge.atomic_files import check_writable, write_all
from edge.bundle.signing import load_private_key
from edge.cameras.files.not_inspected import NotInspected
from edge.challenge.journal import StudyJournal
from edge.challenge.page import as_page
from edge.challenge.presentation import CameraShowings, FileShowings, Showings
from edge.challenge.reference_parts import demand_different_images, read_reference_parts
from edge.challenge.report import StudyContext, StudyReport, as_json, evidence, make_report, notes
from edge.challenge.study import run_study
from edge.contract.challenge import challenge_event
from edge.contract.event import Event
from edge.errors import OutputNotWritable
from edge.inspection.attribute_agreement import Judgement
from edge.redaction import redacted
from edge.settings.layers import SettingsLayers, chosen_recipe
from edge.settings.station import Settings
from edge.station.model.configured import load_configured
from edge.station.model.manager import station_identity
from edge.station.model.releases import Releases

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NOT_ACCEPTABLE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOrder:
    """What is asked of a study.

    Attributes:
        folder: of the reference parts.
        rounds: how often each part is shown.
        present: to the station's camera, by somebody at a terminal; else the images are inspected.
        reports: folder of the reports.
        key, password: PEM file of an ed25519 private key that signs them; None for none.
        journal: folder of the journal that keeps the result; None for none.
        tuning: file that may hold a measured run plan.
    """

    folder: Path
    rounds: int
    present: bool
    reports: Path
    key: Path | None
    password: bytes | None
    journal: Path | None
    tuning: Path


def run_challenge(
    settings: Settings,
    order: StudyOrder,
    answers: TextIO,
    emit: Callable[[str], None],
    *,
    utc_ns: Callable[[], int] = time.time_ns,
) -> int:
    """Show every part, write the report, keep the result in the journal.

    Args:
        settings: of the station; the chosen recipe, what was released and what was set at its
            page are laid over them.
        answers: where somebody who presents parts answers.
        emit: shows a line.

    Returns:
        The exit code: 0, or 1 for a station that is not acceptable.

    Raises:
        StationError: the study could not be made; nothing was written or recorded.
    """
    not_inspected = NotInspected(str(order.folder))
    parts = read_reference_parts(order.folder, order.rounds, not_inspected)
    if not order.present:
        demand_different_images(parts)
    key = load_private_key(order.key, order.password) if order.key else None
    begun_utc_ns = utc_ns()
    path = order.reports / f"challenge_{_stamp(begun_utc_ns)}.json"
    _demand_room(path)
    with ExitStack() as opened:
        journal: StudyJournal | None = None
        if order.journal is not None:
            journal = opened.enter_context(closing(StudyJournal(order.journal, settings)))
        # As the station begins: with the chosen recipe, what was released, and the page's.
        written = settings
        settings = SettingsLayers(written, lambda: written, order.journal).first()
        model = load_configured(
            settings, Path(settings.model.path), order.tuning, Releases(order.journal)
        )
        showings = opened.enter_context(
            closing(
                _showings(settings, order, not_inspected=not_inspected, answers=answers, emit=emit)
            )
        )
        shown = run_study(parts, order.rounds, showings, model.inspectors[0], emit=emit)
        context = StudyContext(
            station=settings.mqtt.station if settings.mqtt else None,
            host=platform.node(),
            folder=str(order.folder.absolute()),
            not_inspected=str(not_inspected),
            camera=redacted(settings.camera.uri) if order.present else None,
            identity=station_identity(settings, model.bundle, showings.simulated),
            decision=model.criteria,
            guard_band=settings.decision.guard_band,
            recipe=chosen_recipe(settings),
            model_path=str(model.bundle.path),
            begun_utc_ns=begun_utc_ns,
            ended_utc_ns=utc_ns(),
            public_key_sha256=_fingerprint(key) if key else None,
        )
        report = make_report(context, shown)
        sha256 = _write(report, path, key)
        if journal is not None:
            journal.record(_event(report, path.name, sha256), utc_ns())
    if context.recipe is not None:
        emit(f"inspected: recipe {context.recipe.id}, version {context.recipe.version}")
    for note in notes(report):
        emit(note)
    emit(f"{path}, {path.with_suffix('.html').name}: written")
    emit(report.summary)
    return NOT_ACCEPTABLE if report.judgement is Judgement.NOT_ACCEPTABLE else 0


def _demand_room(path: Path) -> None:
    """Find out before the study whether its report can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(
            f"{path.parent}: cannot be made ({error.strerror}). Name another folder after --report."
        ) from error
    check_writable(path)


def _showings(
    settings: Settings,
    order: StudyOrder,
    *,
    not_inspected: NotInspected,
    answers: TextIO,
    emit: Callable[[str], None],
) -> Showings:
    if order.present:
        return CameraShowings(settings.camera, answers, emit)
    return FileShowings(settings.camera.max_pixels, not_inspected)


def _write(report: StudyReport, path: Path, key: "Ed25519PrivateKey | None") -> str:
    """Write report, page and signatures, all or none of them; return the hash of the report."""
    content = as_json(report, f"{path.name}.sig" if key else None)
    sha256 = hashlib.sha256(content).hexdigest()
    files = [(path, content), (path.with_suffix(".html"), as_page(content, path.name, sha256))]
    if key is not None:
        files += [(file.with_name(f"{file.name}.sig"), key.sign(made)) for file, made in files]
    write_all(files)
    return sha256


def _event(report: StudyReport, name: str, sha256: str) -> Event:
    return challenge_event(
        report.judgement,
        f"capability study {report.summary}.",
        model_sha256=report.context.identity.model_sha256,
        decision_sha256=report.context.decision.sha256,
        evidence=evidence(report, name, sha256),
    )


def _fingerprint(key: "Ed25519PrivateKey") -> str:
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()


def _stamp(utc_ns: int) -> str:
    """Return a time as a part of a file name: ``20260131T235959.123Z``."""
    moment = datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{utc_ns // 1_000_000 % 1000:03d}Z"
