"""What makes a machine another one for the self-test's verdict."""

from __future__ import annotations

from pathlib import Path

from thawbox.machine.facts import machine_facts

CPU = (
    "processor\t: 0\nvendor_id\t: V\ncpu family\t: 6\nmodel\t\t: 1\nstepping\t: 2\n"
    "cpu MHz\t\t: 2900.1\nflags\t\t: fpu avx\n"
)


def facts(folder: Path, content: str) -> dict[str, str]:
    (folder / "cpuinfo").write_text(content)
    return machine_facts(folder / "cpuinfo")


def test_what_the_processor_can_do_counts(tmp_path: Path) -> None:
    assert facts(tmp_path, CPU) != facts(tmp_path, CPU.replace("avx", "avx avx2"))
    assert facts(tmp_path, CPU) != facts(tmp_path, CPU.replace("model\t\t: 1", "model\t\t: 7"))


def test_its_speed_and_number_do_not(tmp_path: Path) -> None:
    other = CPU.replace("2900.1", "1200.7") + "\n" + CPU.replace("processor\t: 0", "processor\t: 1")
    assert facts(tmp_path, CPU) == facts(tmp_path, other)


def test_this_machine_has_all_of_them() -> None:
    found = machine_facts()
    assert set(found) == {"kernel", "kernel_build", "cpu", "cgroups"}
    assert all(found.values())
