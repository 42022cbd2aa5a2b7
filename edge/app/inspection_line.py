"""Everything that inspects: the model, the hand-shake, the pipeline, and who hears of verdicts."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from edge.app.assembly import (
    led_by_modbus_master,
    make_handshake,
    make_mailbox,
    make_rules,
    trigger_source,
)
from edge.app.image_folders import ImageFolders, keep_next
from edge.app.observers import make_observers
from edge.app.signals import Stopper
from edge.app.station_base import INSPECTION, StationBase
from edge.bundle.signature import check_public_key
from edge.contract.commands import CommandRequest, SetRecipe
from edge.contract.event import Datum
from edge.contract.verdict import Recipe
from edge.errors import CameraLost, ConfigurationError, StationError
from edge.hmi.station_end.status import Sources
from edge.imaging.frame import Frame
from edge.station.command_threads import CommandHandlers, CommandThreads
from edge.station.fleet.agent import AgentServices, FleetAgent
from edge.station.fleet.download import ReleaseDownload, free_bytes
from edge.station.fleet.memory import MemoryFile
from edge.station.fleet.products import StationProducts
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_client import ModbusClientThread
from edge.station.handshake.modbus_link import LinkServices, ModbusLink, modbus_port
from edge.station.handshake.modbus_thread import ModbusThread, bind_modbus
from edge.station.handshake.part import Input
from edge.station.model.manager import ModelManager
from edge.station.model.releases import Releases
from edge.station.monitoring.challenge_monitor import ChallengeMonitor
from edge.station.monitoring.drift_monitor import DriftMonitor
from edge.station.monitoring.watchdog import Watchdog, end_process
from edge.station.opcua.server_process import StationRecipes
from edge.station.outputs.control import OutputControl
from edge.station.outputs.device_thread import OutputThread
from edge.station.outputs.devices import make_outputs
from edge.station.pipeline.code_reading import CodeReader
from edge.station.pipeline.pipeline import Station
from edge.station.pipeline.run_summary import RunSummary
from edge.station.pipeline.work import Beats, NewestFrame
from edge.station.recording import reports
from edge.station.recording.journal_folder import journal_folder
from edge.station.recording.port_output import port_sinks
from edge.station.recording.verdict_recorder import JournalRecorder, StdoutRecorder, VerdictRecorder
from edge.station.threads import Worker

log = logging.getLogger(__name__)

DELIVERY_LIMIT_S = 10.0
STOP_DELIVERY_LIMIT_S = 5.0
THREAD_STOP_LIMIT_S = 3.0
# Triggers that wait so long are logged; what they wait for has limits of its own.
CONTROL_SILENCE_S = 10.0


class InspectionLine:
    """What inspects on a ``StationBase``, built in the order of its parts.

    Attributes:
        model, station, images, recorder: its parts.
    """

    def __init__(self, base: StationBase, *, once: bool, tuning: Path, stopper: Stopper) -> None:
        """Load the model, build the pipeline, open the camera.

        Args:
            tuning: file that may hold a measured run plan.

        Raises:
            StationError: something cannot be used.
        """
        self._base, self._stopper = base, stopper
        settings, camera, publisher = base.settings, base.camera.camera, base.publisher
        modbus = settings.modbus
        bound = bind_modbus(modbus) if modbus else None
        newest = NewestFrame()
        self.model = model = ModelManager(
            settings=settings,
            tuning=tuning,
            simulated=camera.simulated,
            trial=newest.read,
            reread=base.layers.reread,
            record_event=base.record_event,
            releases=Releases(journal_folder(settings)),
            layers=base.layers,
        )
        accepts_triggers = led_by_modbus_master(settings)
        registers = (
            modbus_port(modbus, accepts_triggers, settings.handshake.slots) if modbus else None
        )
        self.outputs = outputs = make_outputs(settings, base.camera, base.health, base.record_event)
        if base.opcua is not None:
            base.opcua.set_recipes(
                StationRecipes(
                    current=lambda: model.recipe,
                    offered=self._recipes_in_force,
                    choose=self._ask_for_recipe,
                )
            )
        self._handshake = handshake = make_handshake(
            settings,
            recipe=model.recipe,
            publisher=publisher,
            modbus=registers,
            outputs=outputs,
            expose=base.camera.trigger,
            record_event=base.record_event,
        )
        if handshake is not None and settings.camera.trigger.by_message:
            refused = partial(_trigger_refused, handshake, outputs)
            if settings.leader == "mqtt" and publisher is not None:
                publisher.on_trigger_refused(refused)
                frame_timeout_s = settings.camera.trigger.frame_timeout_ms / 1e3
                publisher.on_gap(handshake.announcement_lost, frame_timeout_s)
            if accepts_triggers and registers is not None:
                registers.on_trigger_refused(refused)
        self._modbus: ModbusLink | None = None
        if modbus and registers and handshake:
            services = LinkServices(
                port=registers,
                accepts_triggers=accepts_triggers,
                handshake=handshake,
                put=base.messages.put,
                health=base.health,
                record_event=base.record_event,
            )
            if bound is not None:
                self._modbus = ModbusThread(modbus, services, bound)
            elif modbus.plc is not None:
                self._modbus = ModbusClientThread(modbus, services, modbus.plc)
        self.images = ImageFolders(
            settings=settings,
            can_wait=camera.can_wait,
            failures=base.failures,
            health=base.health,
            record_event=base.record_event,
        )
        ports = port_sinks(
            settings,
            can_wait=camera.can_wait,
            failures=base.failures,
            health=base.health,
            record_event=base.record_event,
        )
        self.recorder = self._make_recorder()
        self.recorder.add_observer(model)
        self.recorder.add_observer(
            DriftMonitor(model.current_bundle, settings.drift, base.health, base.record_event)
        )
        line = model.line()
        self._mailbox = make_mailbox(settings, camera.can_wait, len(line.inspectors))
        one_part = once and base.camera.status is not None
        self.station = station = Station(
            camera=camera,
            mailbox=self._mailbox,
            line=line,
            sinks=[self.recorder, *self.images.sinks, *ports],
            failures=base.failures,
            rules=make_rules(settings, camera.can_wait, 1 if one_part else None),
            triggering=handshake,
            recipes=model.recipes,
            beats=Beats.of(
                base.heartbeats,
                len(line.inspectors),
                settings.watchdog.capture_s,
                settings.watchdog.inspect_s,
            ),
            newest=newest,
            images=self.images.addresses,
            on_exposed=outputs.on_exposed if outputs is not None else _no_outputs,
            on_ending=outputs.on_ending if outputs is not None else _no_ending,
            codes=self._make_code_reader(len(line.inspectors)),
        )
        model.on_exchange(station.exchange)
        model.subscribe(self._publish_meta)
        self._publish_meta()
        self._challenge = self._make_challenge_monitor()
        self._fleet = self._make_fleet_agent()
        if base.reporter is not None:
            base.reporter.model, base.reporter.handshake = model, handshake
            base.reporter.station = station
        self._observers = make_observers(self._sources(), self.reload, self._release_recipe)
        for observer in self._observers:
            base.reload.add("token of the page", observer)
            self.recorder.add_observer(observer)
            observer.start()
        stopper.stops(station.stop)
        if handshake is not None:
            handshake.set_ready(Input.MODEL, True)
            if base.journal is not None:
                base.journal.on_writable(handshake.on_writable)
            else:
                handshake.on_writable(True)
        base.camera.subscribe(station)
        base.camera.start()
        if outputs is not None:  # some of them may be the camera's
            base.health.subscribe(outputs.on_health)
            outputs.open(partial(self._set_ready, Input.OUTPUTS))

    def inspect(self) -> RunSummary:
        """Inspect to the end, then see that the broker has everything.

        Raises:
            StationError: the camera is lost for good, a thread met a defect, or verdicts wait.
        """
        base = self._base
        ended = self._ended
        watchdog = Watchdog(base.heartbeats, base.manager, end_process)
        control = self._command_threads()
        threads = [
            Worker("watchdog", watchdog.run, base.failures),
            Worker("control", lambda: control.run(ended), base.failures),
            Worker(
                "commands",
                lambda: control.run_commands(ended, self._between_commands),
                base.failures,
            ),
        ]
        if self.model.recipes is not None:
            recipes = self.model.recipes
            self.model.want_recipes()
            threads.append(Worker("recipes", lambda: recipes.run(ended), base.failures))
        if self._fleet is not None:
            fleet = self._fleet
            threads.append(Worker("fleet", lambda: fleet.run(ended), base.failures))
        if self._modbus is not None:
            modbus = self._modbus
            threads.append(Worker("modbus", lambda: modbus.run(ended), base.failures))
        # They end after the last verdict, and leave their lines as nobody's.
        outputs = [Worker("outputs", one.run, base.failures) for one in self._output_threads()]
        encoder = self.outputs.encoder if self.outputs is not None else None
        if encoder is not None:
            outputs.append(Worker("encoder", encoder.run, base.failures))
        for thread in outputs:
            thread.start()
        log.info("inspecting %s with %s", base.camera.camera.identity, self.model.store.current)
        if self._challenge is not None:
            self._challenge.check()
        base.health.arrived(INSPECTION)
        base.status.ready()
        for thread in threads:
            thread.start()
        try:
            summary = self.station.run(on_degraded=lambda reason: base.health.set(reason, True))
        finally:
            base.health.end()
            base.manager.stopping("delivering the remaining verdicts")
            watchdog.end()
            if self.outputs is not None:
                self.outputs.close()
            for thread in (*threads, *outputs):
                thread.join(THREAD_STOP_LIMIT_S)
            stopped = self._stopper.stopped
            undelivered = base.deliver(STOP_DELIVERY_LIMIT_S if stopped else DELIVERY_LIMIT_S)
        if base.camera.lost_once:
            raise CameraLost(base.camera.lost_once)
        if undelivered and not stopped:
            raise undelivered
        if undelivered:
            log.info("%s", undelivered)
        return summary

    def reload(self) -> Mapping[str, Datum]:
        """Take changed settings over between two parts; return what changed.

        Raises:
            StationError: nothing was changed.
        """
        return self._base.reload.run(self.model.reload)

    def stop_observers(self) -> None:
        for observer in self._observers:
            observer.stop()

    def _make_code_reader(self, threads: int) -> CodeReader | None:
        settings, layers = self._base.settings.code, self._base.layers
        if settings is None:
            return None
        return CodeReader(settings, threads, offered=lambda name: layers.offered(name, None))

    def _output_threads(self) -> Sequence[OutputThread]:
        return self.outputs.threads if self.outputs is not None else ()

    def _set_ready(self, name: Input, good: bool) -> None:
        if self._handshake is not None:
            self._handshake.set_ready(name, good)

    def _ended(self) -> bool:
        return self._base.health.ended

    def _ending(self) -> bool:
        return self._stopper.stopped or self._base.failures.any()

    def _make_recorder(self) -> VerdictRecorder:
        base = self._base
        can_wait, failures = base.camera.camera.can_wait, base.failures
        if base.journal is not None:
            return JournalRecorder(
                journal=base.journal,
                output=base.output,
                ending=self._ending,
                handshake=self._handshake,
                can_wait=can_wait,
                failures=failures,
                outputs=self.outputs,
            )
        assert base.output is not None  # a station without a journal has no broker either
        return StdoutRecorder(
            output=base.output,
            ending=self._ending,
            handshake=self._handshake,
            can_wait=can_wait,
            failures=failures,
            outputs=self.outputs,
        )

    def _command_threads(self) -> CommandThreads:
        base, handshake, snapshots = self._base, self._handshake, self.images.snapshots
        return CommandThreads(
            messages=base.messages,
            handlers=CommandHandlers(
                trigger=self.station.trigger,
                acknowledge=handshake.acknowledged if handshake else None,
                reload=self.reload,
                self_test=self.model.self_test,
                set_recipe=self._set_recipe,
                snapshot=partial(keep_next, snapshots) if snapshots else None,
            ),
            source=trigger_source(base.settings),
            leader=base.settings.leader,
            recipe=lambda: self.model.recipe,
            offered=base.layers.offered if self.model.recipes is not None else None,
            journal=base.journal.journal if base.journal else None,
            replies=base.publisher,
            record_event=base.record_event,
            beat=base.heartbeats.stage("control", CONTROL_SILENCE_S, critical=False),
        )

    def _set_recipe(self, recipe: Recipe) -> Mapping[str, Datum]:
        if self.model.recipes is not None:
            choose = partial(self.model.choose_recipe, recipe.id, recipe.version or None)
            return self._base.reload.run(choose)
        live = self.model.recipe
        if recipe != live:
            raise ConfigurationError(
                f"{recipe} is not set up at this station; set up: {live or 'none'}. Change "
                "recipe and model in the settings, and reload."
            )
        return {"recipe": recipe.id, "version": recipe.version}

    def _recipes_in_force(self) -> list[Recipe] | None:
        found = self.model.recipe_listing()
        if found is None:
            return None
        return [Recipe(one.name, one.in_force) for one in found if one.in_force is not None]

    def _ask_for_recipe(self, recipe: Recipe, sender: str) -> None:
        """Have the thread of commands change over; its event names the sender."""
        request = CommandRequest(name="set_recipe", sender=sender, answered=False)
        if not self._base.messages.put(SetRecipe(request, recipe)):
            log.warning("%s asked for %s; too many requests are waiting", sender, recipe)

    def _release_recipe(self, asked: str, version: int | str | None) -> Mapping[str, Datum]:
        """Change over to a recipe; a version that is not in force is put in force."""
        choose = partial(self.model.choose_recipe, asked, version, release=True)
        return self._base.reload.run(choose)

    def _make_fleet_agent(self) -> FleetAgent | None:
        base, settings = self._base, self._base.settings
        recipes, journal, publisher = base.layers.recipes, base.journal, base.publisher
        if settings.fleet is None or settings.mqtt is None:
            return None
        assert recipes is not None and journal is not None and publisher is not None
        check_public_key(Path(settings.fleet.public_key))
        return FleetAgent(
            AgentServices(
                station=settings.mqtt.station,
                journal=journal.identities(),
                journal_path=journal.path,
                recipes=recipes,
                products=StationProducts(self.model, recipes, base.reload.run),
                download=ReleaseDownload(
                    settings=settings.fleet,
                    clock_s=time.monotonic,
                    free_bytes=free_bytes,
                    ending=self._ended,
                ),
                memory=MemoryFile(journal.path.parent),
                inbox=base.desired,
                publish=publisher.set_fleet_report,
                record_event=base.record_event,
            )
        )

    def _make_challenge_monitor(self) -> ChallengeMonitor | None:
        settings, journal = self._base.settings.challenge, self._base.journal
        if settings is None or journal is None:
            return None
        return ChallengeMonitor(
            settings=settings,
            journal=journal.path,
            current=lambda: self.model.store.current,
            health=self._base.health,
        )

    def _between_commands(self) -> None:
        self._reload_if_asked()
        if self._challenge is not None:
            self._challenge.check()

    def _reload_if_asked(self) -> None:
        if self._stopper.pop_reload():
            try:
                done = self.reload()
                log.info("reloaded: %s", done["changed"])
            except StationError:  # the event before says why
                log.error("not reloaded; the station continues with the old settings")

    def _publish_meta(self) -> None:
        journal, publisher = self._base.journal, self._base.publisher
        if journal is not None and publisher is not None:
            publisher.set_meta(
                reports.meta(
                    self.model.settings,
                    self._base.camera.camera.simulated,
                    self.model.identity(),
                    journal.journal,
                    guarantee=self.model.guarantee(),
                )
            )

    def _sources(self) -> Sources:
        base = self._base
        return Sources(
            model=self.model,
            simulated=base.camera.camera.simulated,
            journal=base.journal,
            publisher=base.publisher,
            sparkplug=base.sparkplug,
            opcua=base.opcua,
            record_event=base.record_event,
            health=base.health,
            condition=self._condition,
            camera=lambda: base.camera.status,
            summary=self.station.summary,
            queues=lambda: {"frames": self._mailbox.waiting},
            handshake=self._handshake.counts if self._handshake else dict,
            modbus=lambda: self._modbus.status() if self._modbus else None,
            outputs=lambda: self.outputs.status() if self.outputs else [],
            snapshots=lambda: self.images.snapshots,
            recent=lambda: self.images.recent,
        )

    def _condition(self) -> str:
        return "stopped" if self._stopper.stopped else self._base.health.condition.value


def _no_outputs(_frame: Frame) -> None:
    """No line switches for parts."""


def _no_ending() -> None:
    """No line shows it."""


def _trigger_refused(
    handshake: HandshakeCoordinator, outputs: OutputControl | None, received_ns: int
) -> None:
    if outputs is not None:
        outputs.on_trigger_refused(received_ns)
    handshake.announcement_lost()
