"""The machine and the versions that a measurement belongs to; no names of hosts, no paths."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

PACKAGES = ("stemjax", "jax", "jaxlib", "numpy", "scipy", "flax", "optax", "numpyro", "h5py")


def processor() -> str:
    """Model of the processor as the system names it.

    >>> bool(processor())
    True
    """
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Number of cores that this process may use.

    >>> cores() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> float:
    """Memory of the machine [GB], 0 where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return 0.0


def load() -> float:
    """Processes that wanted a core in the last minute, on average; other people's work counts."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def vector_extensions() -> list[str]:
    """Widest vector instructions of the processor, those that decide the speed of a transform."""
    listing = Path("/proc/cpuinfo")
    flags = set(listing.read_text().split()) if listing.exists() else set()
    return [f for f in ("avx512f", "avx2", "fma", "asimd") if f in flags]


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that are installed.

    >>> "python" in versions(())
    True
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory and system, as a mapping for JSON.

    >>> sorted(describe_machine())
    ['cores', 'load', 'memory_GB', 'processor', 'system', 'vector_extensions']
    """
    return {
        "processor": processor(),
        "vector_extensions": vector_extensions(),
        "cores": cores(),
        "memory_GB": memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": load(),
    }
