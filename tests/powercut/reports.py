"""What a guest has named on its serial line, and whether the next boot bears it out."""

import hashlib
from dataclasses import dataclass, field


@dataclass
class GuestReport:
    """The records that a guest has named: digests in order of their numbers, by kind."""

    digests: dict[str, list[str]] = field(default_factory=lambda: {"verdict": [], "event": []})

    def begin(self, boot: int) -> None:
        """Note that a machine boots."""

    def accept(self, words: list[str]) -> str | None:
        """Take a line; return what is wrong with it."""
        match words:
            case ["committed", kind, seq, digest]:
                return self._add(kind, int(seq), digest)
        return None

    @property
    def faults(self) -> list[str]:
        """What was wrong with all that was named before, when a boot had named what it has."""
        return []

    @property
    def undelivered(self) -> str:
        """What the broker did not have at the last boot, and has not got since; empty for none."""
        return ""

    @property
    def count(self) -> int:
        return sum(map(len, self.digests.values()))

    def counts(self) -> str:
        return ",".join(f"{kind}:{len(known)}" for kind, known in self.digests.items())

    def expected(self) -> set[str]:
        """Return the lines by which the next boot shows that it has all of it."""
        return {
            f"have {kind} {len(known)} {hashlib.sha256(''.join(known).encode()).hexdigest()}"
            for kind, known in self.digests.items()
        }

    def __str__(self) -> str:
        return f"named {self.counts()}"

    def _add(self, kind: str, seq: int, digest: str) -> str | None:
        known = self.digests[kind]
        known.append(digest)
        return None if seq == len(known) else f"fault {kind} {seq} came as number {len(known)}"


@dataclass
class StationReport(GuestReport):
    """What a whole station has shown to its PLC and its broker, too.

    Attributes:
        slots: parts that may be in flight, which is how many a cut may leave without a verdict.
        verdicts: trigger and result of each verdict on record, in order of their numbers.
        accepted: triggers that the PLC saw accepted, and the boot of each.
        shown: number and result that the PLC saw as valid, by trigger.
        received: digests that the broker gave to a subscriber, by kind and number.
        waiting: kind and number of what the broker did not have at this boot, nor since.
        journal: its UUID, from the first boot on.
    """

    slots: int = 8
    verdicts: list[tuple[str, str]] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    shown: dict[str, tuple[int, str]] = field(default_factory=dict)
    received: dict[tuple[str, int], str] = field(default_factory=dict)
    waiting: set[tuple[str, int]] = field(default_factory=set)
    journal: str | None = None
    _last_received: dict[str, int] = field(default_factory=dict)
    _boot: int = 0
    _checked: bool = False
    _faults: list[str] = field(default_factory=list)
    _seqs: dict[str, int] = field(default_factory=dict)

    def begin(self, boot: int) -> None:
        self._boot, self._checked = boot, False
        self.waiting.clear()
        self._faults = []

    def accept(self, words: list[str]) -> str | None:
        match words:
            case ["journal", journal]:
                before, self.journal = self.journal, journal
                if before not in (None, journal):
                    return f"fault the journal {before} is now {journal}"
            case ["checked"]:
                self._checked = True
                self._faults = self._find_faults()
            case ["committed", "verdict", seq, digest, trigger, result]:
                wrong = self._recorded(trigger, result)
                return self._add("verdict", int(seq), digest) or wrong
            case ["accepted", trigger]:
                if trigger in self.accepted:
                    return f"fault {trigger} is accepted twice"
                self.accepted[trigger] = self._boot
            case ["valid", trigger, seq, result]:
                if trigger in self.shown:
                    return f"fault {trigger} is shown twice: {self.shown[trigger]}, {seq} {result}"
                self.shown[trigger] = int(seq), result
            case ["waiting", kind, seq]:
                self.waiting.add((kind, int(seq)))
            case ["received", kind, seq, digest]:
                return self._received(kind, int(seq), digest)
            case _:
                return super().accept(words)
        return None

    @property
    def faults(self) -> list[str]:
        return self._faults

    @property
    def undelivered(self) -> str:
        return ", ".join(f"{kind} {seq}" for kind, seq in sorted(self.waiting))

    def undecided(self) -> list[str]:
        """Return accepted triggers without a verdict: parts in flight, which nobody was shown."""
        return [trigger for trigger in self.accepted if trigger not in self._seqs]

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; {len(self.accepted)} parts accepted, {len(self.shown)} results "
            f"valid at the PLC, {len(self.received)} records received from the broker, "
            f"{len(self.undecided())} parts in flight not inspected"
        )

    def _find_faults(self) -> list[str]:
        faults = []
        for trigger, (seq, result) in self.shown.items():
            found = self.verdicts[seq - 1] if seq <= len(self.verdicts) else ("none", "none")
            # After its deadline a result is shown as ERROR, whatever is on record.
            if found[0] != trigger or result not in (found[1], "ERROR"):
                faults.append(f"{trigger} was shown as {seq} {result}, on record is {found}")
        for (kind, seq), digest in self.received.items():
            known = self.digests[kind]
            if seq > len(known) or known[seq - 1] != digest:
                faults.append(f"{kind} {seq} was received and is not on record so")
        left: dict[int, list[str]] = {}
        for trigger in self.undecided():
            left.setdefault(self.accepted[trigger], []).append(trigger)
        faults += [
            f"boot {boot} left {len(parts)} accepted parts without a verdict"
            for boot, parts in left.items()
            if len(parts) > self.slots
        ]
        return faults

    def _received(self, kind: str, seq: int, digest: str) -> str | None:
        self.waiting.discard((kind, seq))
        before = self.received.setdefault((kind, seq), "")
        self.received[kind, seq] = digest
        if before not in ("", digest):
            return f"fault {kind} {seq} was received with two contents"
        last = self._last_received.get(kind, 0)
        self._last_received[kind] = max(seq, last)
        return f"fault {kind} {seq} came only after {last}" if not before and seq < last else None

    def _recorded(self, trigger: str, result: str) -> str | None:
        """Enter a verdict; return what is wrong with it."""
        self.verdicts.append((trigger, result))
        seq, known = len(self.verdicts), self._seqs.get(trigger)
        self._seqs[trigger] = seq
        if known is not None:
            return f"fault {trigger} has the verdicts {known} and {seq}"
        if (read_boot(trigger) == self._boot) != self._checked:
            return f"fault {trigger} has its verdict {seq} only from boot {self._boot}"
        return None


def make_trigger(boot: int, number: int) -> str:
    return f"b{boot}-{number}"


def read_boot(trigger: str) -> int:
    return int(trigger[1:].partition("-")[0])
