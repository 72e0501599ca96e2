"""Memory at hand, and how many equal pieces of work fit into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stemjax.core.errors import InputError

SHARE = 0.7
"""Part of the memory at hand that a plan may use: the rest is for what it cannot foresee."""

UNLIMITED = 1 << 60
"""Limits above this are no limits: systems write "none" as a number that no machine has."""


def memory_at_hand(root: str | Path = "/") -> int:
    """Bytes that this process can still allocate on the machine.

    The least of what the system says is available and of what every control group (container, batch job) that holds
    the process still allows; memory that the kernel would give back at once, its cache of files, counts as free.

    Args:
        root: Root of the file system, for tests.

    Returns:
        Bytes; where the system tells nothing, half of its physical memory.

    >>> memory_at_hand() > 0
    True
    """
    root = Path(root)
    found = [value for value in (_available(root), *_group_allowances(root)) if value is not None]
    return max(min(found), 0) if found else _physical() // 2


def device_memory() -> int:
    """Bytes that are free on the first device: its own memory for a GPU, that of the machine for a CPU.

    >>> device_memory() > 0
    True
    """
    import jax

    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return max(int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0)), 0)
    return memory_at_hand()


def fits(size: float, budget: float | None = None) -> bool:
    """Whether so many bytes may be allocated.

    Args:
        size: Bytes wanted.
        budget: Bytes that may be used; the usable share of the device's free memory if left out.

    >>> fits(10, budget=5), fits(5, budget=5)
    (False, True)
    """
    return size <= (SHARE * device_memory() if budget is None else budget)


def largest_chunk(
    bytes_each: float, count: int, *, budget: float | None = None, fixed: float = 0.0, name: str = "one piece"
) -> int:
    """How many of `count` equal pieces can be worked on at once.

    Args:
        bytes_each: Bytes that one piece needs.
        count: Pieces that there are.
        budget: Bytes that may be used; the usable share of the device's free memory if left out.
        fixed: Bytes needed whatever the number of pieces.
        name: What a person calls a piece.

    Returns:
        Between 1 and `count`.

    Raises:
        InputError: Not even one piece fits.

    >>> largest_chunk(100, 64, budget=1000), largest_chunk(100, 4, budget=1000)
    (10, 4)
    """
    allowed = SHARE * device_memory() if budget is None else budget
    chunk = int((allowed - fixed) // max(bytes_each, 1.0))
    if chunk < 1:
        raise InputError(
            f"{name} needs {readable(fixed + bytes_each)} of memory and {readable(allowed)} may be used; "
            "use fewer pixels or slices, or a machine with more memory"
        )
    return min(chunk, max(count, 1))


def readable(size: float) -> str:
    """Bytes for people.

    >>> readable(999), readable(3.3e8)
    ('999 B', '330 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000.0
    return f"{size:.3g} TB"


def _available(root: Path) -> int | None:
    text = _text(root / "proc" / "meminfo") or ""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_allowances(root: Path) -> list[int]:
    """What every control group from the process's own to the topmost still allows."""
    found: list[int | None] = []
    for line in (_text(root / "proc" / "self" / "cgroup") or "0::/").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += _allowances(root / "sys/fs/cgroup", path, _second_version)
        elif "memory" in controllers.split(","):
            found += _allowances(root / "sys/fs/cgroup/memory", path, _first_version)
    return [value for value in found if value is not None]


def _allowances(mount: Path, path: str, allowance: Callable[[Path], int | None]) -> list[int | None]:
    """Every level counts; inside a container the path may not exist below the mount, the mount itself does."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [allowance(mount.joinpath(*parts[:depth])) for depth in range(len(parts), -1, -1)]


def _second_version(folder: Path) -> int | None:
    return _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat", "inactive_file")


def _first_version(folder: Path) -> int | None:
    limit, usage = folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes"
    return _left(limit, usage, folder / "memory.stat", "total_inactive_file")


def _left(limit: Path, usage: Path, stat: Path, cache: str) -> int | None:
    allowed, used = _number(_text(limit)), _number(_text(usage))
    if allowed is None or used is None or allowed >= UNLIMITED:
        return None
    held = dict(line.split(maxsplit=1) for line in (_text(stat) or "").splitlines() if " " in line)
    return allowed - used + (_number(held.get(cache)) or 0)


def _number(text: str | None) -> int | None:
    stripped = (text or "").strip()
    return int(stripped) if stripped.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 << 30
