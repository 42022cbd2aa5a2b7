"""Leads a roll-out: asks stations, watches them, and keeps how far it is on the broker."""

import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import uuid4

from edge.contract.fleet import OWNER_TOPIC, PAGE_SETTINGS, ROLLOUT_TOPIC, Desired, Owner
from edge.contract.topics import StationTopic
from edge.fleet.errors import BrokerAway, LeadLost, RolloutRefused
from edge.fleet.fleet_link import FleetLink, Retained
from edge.fleet.judgement import Seen
from edge.fleet.rollout import (
    Rollout,
    Stage,
    advance,
    desired_action,
    make_desired,
    waits_for,
    wave_name,
)
from edge.settings.mqtt import MqttSettings
from edge.wording import agreeing, counted

TURN_S = 0.2
KEEP_INTERVAL_S = 5.0
CLAIM_LIMIT_S = 10.0
# The longest pause of a station before it connects again, and some.
RETURN_LIMIT_S = 120.0
# What a command that leads needs of stations.
LEAD_KINDS = ("state", "fleet/report", "fleet/desired")
CONNECTED_STATES = ("starting", "online", "degraded")

Emit = Callable[[str], None]


def look(settings: MqttSettings, stopping: Callable[[], bool], wait_s: float = 0.0) -> Retained:
    """Return what the broker has retained now.

    Args:
        wait_s: at most so long for what is told from time to time and not retained.

    Raises:
        BrokerAway: it cannot be reached.
    """
    link = FleetLink(settings, stopping=stopping)
    link.connect()
    until_s = time.monotonic() + wait_s
    while without_counts(link.retained) and time.monotonic() < until_s and not stopping():
        link.turn(0.1)
    link.close()
    return link.retained


def without_counts(retained: Retained) -> list[str]:
    """Return the connected stations whose counts of parts have not come yet."""
    return [
        name
        for name, kept in retained.stations.items()
        if "metrics" not in kept and read_condition(kept.get("state"))[0] in CONNECTED_STATES
    ]


def next_claim(retained: Retained) -> int:
    """Return a claim above everything that anybody has seen."""
    known = [report.claim for report in retained.reports.values()]
    known += [desired.claim for desired in retained.desired.values()]
    known += [one.claim for one in (retained.rollout, retained.owner) if one is not None]
    return max(known, default=0) + 1


class Lead:
    """The right to ask stations; of two that claim it at once the broker's order decides.

    A claim is published with a number above all others. The first message with that number has the
    lead, whatever comes behind it; whoever leads and meets a higher number has lost it.
    """

    def __init__(self, settings: MqttSettings, claim: int, stopping: Callable[[], bool]) -> None:
        """Claim the lead.

        Raises:
            RolloutRefused: another command was first.
            BrokerAway: the broker cannot be reached, or does not take the claim.
        """
        name = f"{getpass.getuser()}@{socket.gethostname()} ({os.getpid()})"[:200]
        self.owner = Owner(owner=name, session=str(uuid4()), claim=claim, online=True)
        will = self.owner.model_copy(update={"online": False})
        self.link = FleetLink(settings, stopping=stopping, will=will, kinds=LEAD_KINDS)
        self.link.connect()
        self.link.publish(OWNER_TOPIC, self.owner)
        until_s = time.monotonic() + CLAIM_LIMIT_S
        while (first := self._first_of_claim()) is None:
            if time.monotonic() > until_s or not self.link.connected:
                raise BrokerAway(
                    f"{settings.url}: the broker does not return the claim to lead. Use an "
                    "account that may write vi/v1/fleet/# (docs/security.md)."
                )
            self.link.turn(TURN_S)
        if first.session != self.owner.session:
            self.link.close()
            raise RolloutRefused(
                f"{first.owner} started to lead a roll-out at the same moment. See it with "
                "`edge-fleet status`; `edge-fleet pause` stops it."
            )
        self._seen = len(self.link.owners)

    def check(self) -> None:
        """Demand that this command still leads, and keep that on the broker.

        Raises:
            LeadLost: another command has taken over.
        """
        new, self._seen = self.link.owners[self._seen :], len(self.link.owners)
        for other in new:
            if other.claim > self.owner.claim:
                raise LeadLost(
                    f"{other.owner} has taken over; the roll-out continues there. See it with "
                    "`edge-fleet status`."
                )
        # A will of an earlier command, or of our own connection, may have come behind ours; or the
        # broker has lost it.
        if self.link.connected and self.link.retained.owner != self.owner:
            self.link.publish(OWNER_TOPIC, self.owner)
            self.link.retained.owner = self.owner

    def raise_claim(self, claim: int) -> None:
        """Claim a higher number: a station knows of a newer lead than the broker does."""
        self.owner = self.owner.model_copy(update={"claim": claim})
        self.link.publish(OWNER_TOPIC, self.owner)

    def end(self) -> None:
        """Let go of the lead, in order."""
        if self.link.connected:
            self.link.publish(OWNER_TOPIC, self.owner.model_copy(update={"online": False}))
            self.link.flush()
        self.link.close()

    def _first_of_claim(self) -> Owner | None:
        claim = self.owner.claim
        return next((one for one in self.link.owners if one.claim >= claim), None)


class Leader:
    """Leads one roll-out to the next stage at which nothing is to be done."""

    def __init__(self, lead: Lead, rollout: Rollout, emit: Emit) -> None:
        self.rollout = rollout
        self._lead = lead
        self._emit = emit
        self._reported = ""
        self._page_settings: dict[str, str] = {}
        self._kept_s = 0.0
        self._online_since_s: dict[str, float] = {}
        self._there_s: dict[str, float] = {}
        self._connections = lead.link.connections

    def run(self, stopping: Callable[[], bool]) -> Rollout:
        """Lead until it is over or paused, or this command is to end; return how far it is.

        Raises:
            LeadLost: another command has taken over.
        """
        self._keep()
        last_s = time.monotonic()
        while not stopping():
            self._lead.link.turn(TURN_S)
            self._lead.check()
            now_s = time.monotonic()
            if self._lead.link.connected:
                self._go_on(now_s - last_s)
            last_s = now_s
            ended = self.rollout.stage.over or self.rollout.stage is Stage.PAUSED
            if ended and self._finish():
                return self.rollout
        self._finish()
        return self.rollout

    def _finish(self) -> bool:
        """Have the broker keep how far it is; return whether it does."""
        self._ask()
        self._keep()
        return self._lead.link.flush()

    def _go_on(self, passed_s: float) -> None:
        before = self.rollout
        grown = before.model_copy(update={"elapsed_s": before.elapsed_s + passed_s})
        seen = self.seen()
        after = advance(grown, seen)
        if not self._may_return(seen) or _same_way(before, after):
            self.rollout = after
        self._report_page_settings(seen)
        self._report_progress(before, seen)
        changed = (before.stage, before.wave) != (self.rollout.stage, self.rollout.wave)
        if changed:
            self._keep()  # before anybody is asked: whoever takes over must know of them
        self._ask()
        kept = self._lead.link.retained.rollout
        foreign = kept is None or kept.id != before.id  # of one that has lost the lead
        if foreign or time.monotonic() - self._kept_s > KEEP_INTERVAL_S:
            self._keep()

    def _may_return(self, seen: Mapping[str, Seen]) -> bool:
        """Tell whether a station is away that was there a moment ago, or before the broker was.

        One that is off holds up no wave; where all are away at once, none was looked at.
        """
        now_s, link = time.monotonic(), self._lead.link
        online = {name for name, one in seen.items() if one.online}
        recent = {name for name, seen_s in self._there_s.items() if now_s - seen_s < RETURN_LIMIT_S}
        if link.connections != self._connections:
            self._connections, recent = link.connections, set(self._there_s)
            self._there_s = dict.fromkeys(recent, now_s)
        self._there_s = {name: self._there_s[name] for name in recent}
        self._there_s |= dict.fromkeys(online, now_s)
        return not recent <= online

    def seen(self) -> dict[str, Seen]:
        """Return what the broker has of each station of the roll-out."""
        retained, now_s = self._lead.link.retained, time.monotonic()
        found = {one: see(retained, one) for one in self.rollout.stations()}
        self._online_since_s = {
            name: self._online_since_s.get(name, now_s) for name, one in found.items() if one.online
        }
        return {
            name: replace(one, online_s=now_s - self._online_since_s.get(name, now_s))
            for name, one in found.items()
        }

    def _ask(self) -> None:
        """Have the broker keep, for each station, what it is to have."""
        link, asked = self._lead.link, False
        highest = max(
            (r.claim for s in self.rollout.reached() if (r := link.retained.reports.get(s))),
            default=0,
        )
        if highest > self.rollout.claim:
            self.rollout = self.rollout.model_copy(update={"claim": highest + 1, "step": 0})
            self._lead.raise_claim(highest + 1)
            self._keep()
        for station in self.rollout.reached():
            wanted = self._wanted(station)
            if wanted is None:
                continue
            if not asked:
                asked = True
                self.rollout = self.rollout.model_copy(update={"step": self.rollout.step + 1})
            message = wanted.model_copy(update={"step": self.rollout.step})
            link.publish(StationTopic.parse(station).fleet_desired, message)
            link.retained.desired[station] = message

    def _wanted(self, station: str) -> Desired | None:
        """Return what to publish for a station; None where the broker has it."""
        retained = self._lead.link.retained
        seen = see(retained, station)
        action = desired_action(self.rollout, station, seen)
        kept, report = retained.desired.get(station), retained.reports.get(station)
        if action is None:
            return None
        own = kept is not None and kept.rollout == self.rollout.id
        journal = kept.journal if kept is not None and own else report.journal if report else None
        wanted = make_desired(self.rollout, action, journal)
        if kept is None or not own or kept.action is not action or kept.release != wanted.release:
            return wanted
        if report is not None and report.order > kept.order and report.rollout != self.rollout.id:
            return wanted  # the broker has lost what the station knows
        return None

    def ask_again(self, stations: Mapping[str, Seen]) -> None:
        """Ask those once more that did not take it."""
        for station, seen in stations.items():
            report = seen.answer(self.rollout.id)
            if report is not None and report.phase.bad:
                self._lead.link.retained.desired.pop(station, None)
        self._ask()

    def _keep(self) -> None:
        self._kept_s = time.monotonic()
        self._lead.link.publish(ROLLOUT_TOPIC, self.rollout)
        self._lead.link.retained.rollout = self.rollout

    def _report_page_settings(self, seen: Mapping[str, Seen]) -> None:
        """Name stations where what was set at the page differs from the release."""
        for station, one in seen.items():
            report = one.answer(self.rollout.id)
            if report is None or report.reason != PAGE_SETTINGS:
                self._page_settings.pop(station, None)
            elif self._page_settings.get(station) != report.detail:
                self._page_settings[station] = report.detail
                self._emit(f"{station}: {report.detail}")

    def _report_progress(self, before: Rollout, seen: Mapping[str, Seen]) -> None:
        now = self.rollout
        if before.stage is not now.stage:
            self._emit(f"{now.stage.replace('_', ' ')}{': ' if now.reason else ''}{now.reason}")
            return
        if now.stage is Stage.RUNNING:
            waits = waits_for(now, seen)
            count = sum(
                (r := seen[one].answer(now.id)) is not None and r.phase == "in_force"
                for one in now.stations()
            )
            text = (
                f"{wave_name(now)}: {count} of {counted(len(now.stations()), 'station')} "
                f"{agreeing(count, 'has', 'have')} it"
            )
            if text != self._reported:
                self._reported = text
                self._emit(text + (f"; waits for {waits}" if waits else ""))


def _same_way(before: Rollout, after: Rollout) -> bool:
    """Tell whether a roll-out neither begins a wave nor is at its end."""
    return before.wave == after.wave and after.stage not in (Stage.DONE, Stage.ROLLED_BACK)


def see(retained: Retained, station: str) -> Seen:
    """Return what the broker has of a station."""
    kept = retained.desired.get(station)
    condition, reasons = read_condition(retained.stations.get(station, {}).get("state"))
    return Seen(
        report=retained.reports.get(station),
        online=condition in CONNECTED_STATES,
        reasons=reasons,
        asked=kept.order if kept is not None else (0, 0),
    )


def read_condition(state: bytes | None) -> tuple[str, tuple[str, ...]]:
    """Return condition and reasons of a ``state/1``; ``unknown`` of none."""
    try:
        content = json.loads(state or b"null")
        return str(content["state"]), tuple(str(one) for one in content["reasons"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "unknown", ()
