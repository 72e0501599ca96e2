"""Memory at hand as a system tells it, from pretended files of control groups of both versions."""

from pathlib import Path

import pytest

from stemjax.core.errors import InputError
from stemjax.core.memory import device_memory, fits, largest_chunk, memory_at_hand, readable

GB = 10**9


def pretend(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def meminfo(kilobytes: int) -> str:
    return f"MemTotal: {2 * kilobytes} kB\nMemFree: 12 kB\nMemAvailable: {kilobytes} kB\n"


def test_without_a_limit_the_system_decides(tmp_path):
    files = {"proc/meminfo": meminfo(8_000_000), "sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "5"}
    assert memory_at_hand(pretend(tmp_path, files)) == 8_000_000 * 1024


def test_the_tightest_group_of_version_two_decides_and_cached_files_are_free(tmp_path):
    group = "sys/fs/cgroup/job.slice/step"
    files = {
        "proc/meminfo": meminfo(64_000_000),
        "proc/self/cgroup": "0::/job.slice/step\n",
        f"{group}/memory.max": str(10 * GB),
        f"{group}/memory.current": str(4 * GB),
        f"{group}/memory.stat": f"anon 1\ninactive_file {3 * GB}\n",
        "sys/fs/cgroup/job.slice/memory.max": str(12 * GB),
        "sys/fs/cgroup/job.slice/memory.current": str(5 * GB),
    }
    assert memory_at_hand(pretend(tmp_path, files)) == 7 * GB


def test_version_one_inside_a_container(tmp_path):
    files = {
        "proc/meminfo": meminfo(64_000_000),
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * GB),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(1 * GB),
        "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 7\n",
    }
    assert memory_at_hand(pretend(tmp_path, files)) == 2 * GB + 7


def test_version_one_writes_no_limit_as_a_huge_number(tmp_path):
    files = {
        "proc/meminfo": meminfo(1_000_000),
        "proc/self/cgroup": "4:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
    }
    assert memory_at_hand(pretend(tmp_path, files)) == 1_000_000 * 1024


def test_a_system_that_tells_nothing_still_gives_a_number(tmp_path):
    assert memory_at_hand(tmp_path) > 0


def test_this_machine_agrees_with_its_own_table():
    available = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024
    assert 0 < device_memory() <= 1.2 * available


def test_chunks_fill_the_budget_and_never_exceed_it():
    for each, fixed in ((7.0, 0.0), (64.0, 100.0), (1000.0, 1.0)):
        chunk = largest_chunk(each, 10**6, budget=5000.0, fixed=fixed)
        assert fixed + chunk * each <= 5000.0 < fixed + (chunk + 1) * each
    assert fits(5000.0, 5000.0)
    assert not fits(5001.0, 5000.0)


def test_what_cannot_fit_is_said_with_its_size():
    with pytest.raises(InputError, match=r"one probe needs 3 GB of memory and 1 GB may be used"):
        largest_chunk(3 * GB, 10, budget=GB, name="one probe")
    assert readable(1.5e12) == "1.5 TB"
