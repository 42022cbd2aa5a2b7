"""What the doctor says about the operating system, from real files of /proc and /sys."""

import os
from pathlib import Path

import pytest

from edge.doctor.finding import Grade, finding_line, summary
from edge.doctor.machine import (
    disk_finding,
    governor_finding,
    interface_findings,
    network_interface,
    receive_buffer_finding,
    shared_subnet_finding,
    usb_memory_finding,
)


def write(root: Path, path: str, content: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return root


def test_the_interface_of_a_camera_is_found_by_its_route() -> None:
    assert network_interface("127.0.0.7") == ("lo", "127.0.0.1")


@pytest.mark.parametrize(("mtu", "grade"), [("1500", Grade.ADVICE), ("9000", Grade.GOOD)])
def test_a_small_mtu_is_named_with_the_command(tmp_path: Path, mtu: str, grade: Grade) -> None:
    write(tmp_path, "sys/class/net/lo/mtu", mtu)

    found = interface_findings("127.0.0.1", tmp_path)[-1]

    assert found.grade is grade
    assert mtu in found.found
    assert (grade is Grade.GOOD) or "ip link set lo mtu 9000" in found.advice


def test_an_interface_without_a_readable_mtu_is_not_called_good(tmp_path: Path) -> None:
    assert interface_findings("127.0.0.1", tmp_path)[-1].grade is Grade.NOT_SEEN


@pytest.mark.parametrize(
    ("size", "grade"), [("212992", Grade.ADVICE), ("33554432", Grade.GOOD), ("?", Grade.NOT_SEEN)]
)
def test_a_small_receive_buffer_is_named(tmp_path: Path, size: str, grade: Grade) -> None:
    assert (
        receive_buffer_finding(write(tmp_path, "proc/sys/net/core/rmem_max", size)).grade is grade
    )


@pytest.mark.parametrize(
    ("size", "grade"), [("16", Grade.ADVICE), ("1000", Grade.GOOD), ("0", Grade.GOOD)]
)
def test_little_usb_memory_is_named(tmp_path: Path, size: str, grade: Grade) -> None:
    root = write(tmp_path, "sys/module/usbcore/parameters/usbfs_memory_mb", f"{size}\n")
    assert usb_memory_finding(root).grade is grade
    assert usb_memory_finding(tmp_path / "none").grade is Grade.NOT_SEEN


def test_one_slow_core_is_enough_for_advice(tmp_path: Path) -> None:
    for core, governor in enumerate(["performance", "powersave"]):
        path = f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
        write(tmp_path, path, f"{governor}\n")

    assert governor_finding(tmp_path).grade is Grade.ADVICE
    write(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n")
    assert governor_finding(tmp_path).grade is Grade.GOOD
    (tmp_path / "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor").mkdir(parents=True)
    assert governor_finding(tmp_path).grade is Grade.GOOD  # a core that is off cannot be read


def test_the_disk_of_a_folder_that_is_not_there_yet_is_looked_at(tmp_path: Path) -> None:
    space = os.statvfs(tmp_path)
    free = space.f_bavail * space.f_frsize

    assert disk_finding("journal", tmp_path / "a" / "b", free // 2).grade is Grade.GOOD
    assert disk_finding("journal", tmp_path / "a" / "b", free * 2).grade is Grade.ADVICE


def test_two_interfaces_in_one_subnet_are_named(tmp_path: Path) -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    line = "{}\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    root = write(tmp_path, "proc/net/route", head + line.format("eth0") + line.format("eth1"))

    found = shared_subnet_finding(root)

    assert found is not None
    assert found.found == "eth0 and eth1 are both in 192.168.1.0"
    write(tmp_path, "proc/net/route", head + line.format("eth0"))
    assert shared_subnet_finding(root) is None


def test_a_finding_is_one_line_and_the_summary_counts() -> None:
    findings = [usb_memory_finding(Path("/nowhere")), disk_finding("journal", Path("/tmp"), 1)]

    assert finding_line(findings[0]).startswith("not seen  USB memory")
    assert "\n" not in finding_line(findings[0])
    assert summary(findings) == "2 checks: 1 good, 1 not seen"
