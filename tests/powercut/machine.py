"""Real power cuts: ``python -m tests.powercut.machine CUTS SEED GUEST SYNCHRONOUS``.

A virtual machine (QEMU without KVM, a Debian kernel, a root made of Debian's packages) records into
a journal on ext4 and names on its serial line what is committed: a whole station with PLC and a
broker (``GUEST`` is ``station``), or a writer of the journal alone (``journal``). The host ends it
at random moments, and the guest's memory is gone. Of what its disk was given, what came before the
last flush is kept, and of the rest any writes: QEMU logs them all, and the disk of the next boot is
made of that log. After each boot the guest opens the journal with the product, and everything that
it had named must be there. With ``SYNCHRONOUS`` ``normal`` it is not, and the command fails.
"""

import gzip
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.powercut.reports import GuestReport, StationReport

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/powercut"
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PACKAGES = (
    "python3-minimal,python3.11,libsqlite3-0,libstdc++6,busybox-static,mosquitto,"
    "linux-image-cloud-amd64"
)
# What the modules of a station load, at the versions of constraints.txt; OpenCV without a desktop.
WHEELS = (
    "annotated-types",
    "google-re2",
    "inotify-simple",
    "llvmlite",
    "numba",
    "numpy",
    "opencv-python-headless",
    "openvino",
    "openvino-telemetry",
    "paho-mqtt",
    "pydantic",
    "pydantic-core",
    "pyyaml",
    "starlette",
    "typing-extensions",
    "typing-inspection",
)
WHEEL_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
GUEST_PYTHON = (3, 11)
ROOT_BYTES, DISK_BYTES = 2**30, 256 * 2**20
# One that is busy boots in minutes.
BOOT_LIMIT_S = 600.0
DELIVERY_LIMIT_S = 120.0
MAX_PRINTED = 30
_MODULES = (
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
)
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module.ko 2>/dev/null; done
while [ ! -b /dev/vdb ]; do /bin/busybox sleep 0.05; done
/bin/busybox mount -t ext4 -o ro /dev/vda /new
/bin/busybox mount -t ext4 -o rw,data=ordered /dev/vdb /new/data || echo "fault no data disk"
/bin/busybox mount -t proc proc /new/proc
/bin/busybox mount -t sysfs sys /new/sys
/bin/busybox mount -t devtmpfs dev /new/dev
/bin/busybox ifconfig lo 127.0.0.1 up
exec /bin/busybox chroot /new /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp PYTHONPATH=/opt \\
  PYTHONDONTWRITEBYTECODE=1 NUMBA_DISABLE_JIT=1 /usr/bin/python3 -m "$program"
"""

# Packages that are unpacked alone make no users; the broker wants to be one.
_USERS = {
    "passwd": "root:x:0:0::/tmp:/bin/sh\nmosquitto:x:100:100::/tmp:/bin/sh\n",
    "group": "root:x:0:\nmosquitto:x:100:\n",
}


@dataclass(frozen=True)
class GuestKind:
    """What records in the machine.

    Attributes:
        program: module that the guest runs.
        report: makes what the host knows of it.
        max_per_boot, limit_s: so many records, or so long, until the plug is pulled.
    """

    program: str
    report: type[GuestReport]
    max_per_boot: int
    limit_s: float


GUESTS = {
    "journal": GuestKind("tests.powercut.guest", GuestReport, 150, 30.0),
    "station": GuestKind("tests.powercut.station_guest", StationReport, 80, 10.0),
}


def build() -> None:
    """Make kernel, first root and root; once."""
    made, wanted = BUILD / "made", f"{PACKAGES}\n{_wheel_versions()}"
    if made.exists() and made.read_text() == wanted:
        shutil.rmtree(BUILD / "root/opt")
    else:
        shutil.rmtree(BUILD, ignore_errors=True)
        BUILD.mkdir(parents=True)
        options = ["--variant=extract", f"--include={PACKAGES}", "--quiet"]
        tar = BUILD / "root.tar"
        subprocess.run(["mmdebstrap", *options, SUITE, str(tar), MIRROR], check=True)
        (BUILD / "root").mkdir()
        subprocess.run(
            ["tar", "-xf", str(tar), "-C", str(BUILD / "root"), "--exclude=./dev/*"], check=True
        )
        tar.unlink()
        _find_kernel()
        _install_wheels(BUILD / "root/usr/lib/python3/dist-packages")
        made.write_text(wanted)
    root = BUILD / "root"
    for package in ("edge", "tests/powercut"):
        shutil.copytree(
            ROOT / package, root / "opt" / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    (root / "opt/tests/__init__.py").touch()
    for name, lines in _USERS.items():
        (root / "etc" / name).write_text(lines)
    for folder in ("data", "proc", "sys", "dev", "tmp"):
        (root / folder).mkdir(exist_ok=True)
    if sys.version_info[:2] == GUEST_PYTHON:  # else the guest compiles at each boot
        compiled = ["-q", "-j", "2", "--invalidation-mode", "unchecked-hash", "-s", str(root)]
        folders = [
            str(root / "usr/lib/python3.11"),
            str(root / "usr/lib/python3"),
            str(root / "opt"),
        ]
        subprocess.run(
            [sys.executable, "-m", "compileall", *compiled, *folders],
            check=False,  # the library has files that are wrong on purpose
            stdout=subprocess.DEVNULL,
        )
    _make_file_system(BUILD / "root.img", ROOT_BYTES, root)


def _wheel_versions() -> list[str]:
    """Return what to install: each with its version, where the constraints name one."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    named = dict(line.split("==") for line in lines if "==" in line)
    versions = {name.lower().replace("_", "-"): version for name, version in named.items()}
    versions["opencv-python-headless"] = versions["opencv-python"]
    return [f"{one}=={versions[one]}" for one in WHEELS]


def _install_wheels(folder: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"]
    options += [f"--python-version={'.'.join(map(str, GUEST_PYTHON))}", f"--target={folder}"]
    options += [f"--platform={one}" for one in WHEEL_PLATFORMS]
    command = [sys.executable, "-m", "pip", "install", *options, *_wheel_versions()]
    subprocess.run(command, check=True)


def _find_kernel() -> None:
    """Take kernel and modules out of the root, and make the first root of them."""
    root = BUILD / "root"
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    shutil.copyfile(kernel, BUILD / "vmlinuz")
    files = {"init": _INIT.format(modules=" ".join(_MODULES)).encode()}
    files["bin/busybox"] = (root / "bin/busybox").read_bytes()
    for module in _MODULES:
        for path in root.glob(f"lib/modules/*/kernel/drivers/*/{module}.ko"):
            files[f"modules/{module}.ko"] = path.read_bytes()
    (BUILD / "initrd").write_bytes(gzip.compress(b"".join(_cpio(files)), 1))
    for waste in ("boot", "lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(root / waste)


def _cpio(files: dict[str, bytes]) -> Iterator[bytes]:
    """Pack files as the kernel reads them: cpio's format newc."""
    folders = sorted({name.rpartition("/")[0] for name in files} - {""})
    entries = [(name, 0o040755, b"") for name in folders]
    entries += [(name, 0o100755, content) for name, content in files.items()]
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % one for one in fields) + name.encode() + b"\0"
        yield head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _make_file_system(image: Path, size: int, root: Path | None = None) -> None:
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    filling = ["-d", str(root)] if root else []
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", *filling, str(image)],
        check=True,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


class Machine:
    """One boot.

    Attributes:
        lines: of the serial line that are ours, so far.
        opening, ready: its program opens the journal; it records from now on.
    """

    def __init__(
        self, disk: Path, log: Path, reported: GuestReport, program: str, options: str
    ) -> None:
        self.lines: list[str] = []
        self.console: list[str] = []
        self.opening, self.ready = threading.Event(), threading.Event()
        self._reported = reported
        log.unlink(missing_ok=True)
        log.touch()
        self._process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1"),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-serial", "stdio", "-kernel", str(BUILD / "vmlinuz")),
                *("-initrd", str(BUILD / "initrd"), "-append"),
                "console=ttyS0 quiet loglevel=1 panic=-1 no_timer_check mitigations=off "
                f"program={program} named={reported.counts()} {options}",
                *(
                    "-blockdev",
                    f"driver=file,node-name=rootfile,filename={BUILD}/root.img,read-only=on",
                ),
                *("-device", "virtio-blk-pci,drive=rootfile"),
                *("-blockdev", f"driver=file,node-name=data,filename={disk}"),
                *("-blockdev", f"driver=file,node-name=log,filename={log}"),
                *("-blockdev", "driver=blklogwrites,node-name=logged,file=data,log=log"),
                *("-device", "virtio-blk-pci,drive=logged,write-cache=on"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            if not raw.endswith(b"\n"):
                return  # it was cut while it was said
            line = raw.decode(errors="replace").strip()
            match words := line.split():
                case ["opening"]:
                    self.opening.set()
                case ["ready"]:
                    self.ready.set()
                case ["have" | "fault", *_]:
                    self.lines.append(line)
                case [name, *_] if name in NAMED:
                    if fault := self._reported.accept(words):
                        self.lines.append(fault)
                case _:
                    self.console.append(line)

    def kill(self) -> None:
        """Pull the plug."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    @property
    def faults(self) -> list[str]:
        return [line for line in self.lines if line.startswith("fault")]

    @property
    def held(self) -> list[str]:
        """What the guest has of what was named."""
        return [line for line in self.lines if line.startswith("have")]

    @property
    def running(self) -> bool:
        return self._process.poll() is None


# Lines that the host keeps.
NAMED = frozenset({"committed", "journal", "waiting", "checked", "accepted", "valid", "received"})

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872
_FLUSH, _FUA = 1, 2


def cut(disk: Path, log: Path, chance: random.Random) -> tuple[int, int]:
    """Bring onto a disk what was flushed, and of the later writes any.

    Source: the format of Linux' dm-log-writes, which QEMU's blklogwrites writes.

    Returns:
        How many writes were not flushed, and how many of them were lost.
    """
    writes: list[tuple[int, bytes]] = []
    flushed = 0
    with log.open("rb") as file, disk.open("r+b") as target:
        magic, _, _, sector = _SUPER.unpack(file.read(_SUPER.size).ljust(_SUPER.size, b"\0"))
        if magic != _MAGIC:
            return 0, 0  # nothing was written
        place = sector
        while True:
            file.seek(place)
            head = file.read(_ENTRY.size)
            if len(head) < _ENTRY.size or not any(head):
                break
            at, count, flags, _ = _ENTRY.unpack(head)
            content = b""
            if count:
                file.seek(place + sector)
                content = file.read(count * sector)
                if len(content) < count * sector:
                    break  # the plug was pulled while it was logged
            place += sector + len(content)
            if content:
                writes.append((at * sector, content))
            if flags & (_FLUSH | _FUA):
                flushed = len(writes)
        open_writes = writes[flushed:]
        kept_share = chance.choice((0.0, 0.5, 1.0))
        kept = [one for one in open_writes if chance.random() < kept_share]
        for begin, content in writes[:flushed] + kept:
            target.seek(begin)
            target.write(content)
    return len(open_writes), len(open_writes) - len(kept)


def _record(
    machine: Machine, reported: GuestReport, guest: GuestKind, chance: random.Random
) -> None:
    """Let the guest record for a while that hardly depends on how busy this machine is."""
    wanted = reported.count + chance.randint(0, guest.max_per_boot)
    deadline_s = time.monotonic() + guest.limit_s
    while reported.count < wanted and time.monotonic() < deadline_s and not machine.faults:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.3))


def _deliver(machine: Machine, reported: GuestReport) -> None:
    """Wait until the broker has what it did not have at the boot."""
    deadline_s = time.monotonic() + DELIVERY_LIMIT_S
    while reported.undelivered and time.monotonic() < deadline_s and not machine.faults:
        time.sleep(0.1)


def _wait(machine: Machine, event: threading.Event) -> float:
    """Wait for a line of the guest, for its end or a fault; return how long it took."""
    start_s = time.monotonic()
    while machine.running and not event.wait(0.1):
        if machine.faults or time.monotonic() - start_s > BOOT_LIMIT_S:
            break
    return time.monotonic() - start_s


def main(
    cuts: str = "50", seed: str = "1", kind: str = "station", synchronous: str = "full"
) -> int:
    chance, guest = random.Random(int(seed)), GUESTS[kind]
    began_s = time.monotonic()
    build()
    print(f"built in {time.monotonic() - began_s:.0f} s", flush=True)
    state, disk, log = BUILD / "state.img", BUILD / "disk.img", BUILD / "disk.log"
    _make_file_system(state, DISK_BYTES)
    reported = guest.report()
    boot_s, open_s, open_writes, lost_writes, early = 30.0, 3.0, 0, 0, 0
    # One in five, before the station is ready; of these every other once it opens the journal.
    in_boots = sorted(chance.sample(range(1, int(cuts)), int(cuts) // 5))
    for number in range(int(cuts) + 1):
        shutil.copyfile(state, disk)
        expected, before = reported.expected(), str(reported)
        reported.begin(number + 1)
        options = f"boot={number + 1} synchronous={synchronous}"
        machine = Machine(disk, log, reported, guest.program, options)
        start_s = time.monotonic()
        last = number == int(cuts)
        in_boot = number in in_boots
        if number in in_boots[::2]:
            time.sleep(chance.uniform(0.0, boot_s))
        elif in_boot:
            _wait(machine, machine.opening)
            machine.ready.wait(chance.uniform(0.0, open_s))
        else:
            boot_s = _wait(machine, machine.opening)
            open_s = _wait(machine, machine.ready)
            if machine.ready.is_set() and not last:
                _record(machine, reported, guest, chance)
            elif machine.ready.is_set():
                _deliver(machine, reported)
        machine.kill()
        faults = machine.faults
        if last and reported.undelivered:
            faults.append(f"the broker never got {reported.undelivered}")
        # A boot that was cut off may have said too little, but nothing that is wrong.
        faults += reported.faults + [one for one in machine.held if one not in expected]
        if machine.ready.is_set():
            faults += sorted(expected - set(machine.held))
        elif not in_boot:
            faults += ["it did not boot", *machine.console[-20:]]
        if faults:
            print(f"VIOLATION after cut {number}, {before}:", *faults[:MAX_PRINTED], sep="\n")
            return 1
        early += not machine.ready.is_set()
        waiting, lost = cut(state, log, chance)
        open_writes, lost_writes = open_writes + waiting, lost_writes + lost
        print(
            f"cut {number + 1}: {time.monotonic() - start_s:.0f} s"
            f"{' before it was ready' if in_boot else ''}, {reported}; "
            f"{waiting} writes not flushed, {lost} lost",
            flush=True,
        )
    print(
        f"{cuts} cuts of a {kind}, {early} of them before it was ready; {reported}; "
        f"{open_writes} writes not flushed, {lost_writes} of them lost; everything named is there; "
        f"{time.monotonic() - began_s:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
