"""The one place that sets jax flags, and only when asked."""

from __future__ import annotations

import os
from pathlib import Path


def setup(
    *, devices: int | None = None, double: bool = False, cache: str | Path | None = None, keep: float = 0.1
) -> None:
    """Prepare jax for this process; call it once, before anything computes.

    On a CPU every core becomes a device of its own, because XLA runs the Fourier transforms of one compiled program on
    one core. Compiled programs are kept on disk, so that a second run of the same shapes starts at once.

    Args:
        devices: CPU devices; as many as the process may use cores if left out. Ignored on a GPU.
        double: Compute in double precision.
        cache: Folder of compiled programs; `$STEMJAX_CACHE`, or `stemjax/` in the user's cache folder, if left out.
        keep: Programs that took at least this long to compile are kept [s].

    Raises:
        RuntimeError: jax has already computed something with another number of devices.
    """
    hush()
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", devices or cores)
    jax.config.update("jax_enable_x64", double)
    folder = Path(cache or os.environ.get("STEMJAX_CACHE") or _cache_home() / "stemjax")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", keep)


def hush() -> None:
    """Keep XLA from printing a page for every program that it takes from the cache; before jax is imported.

    On processors with AVX-512 it complains of its own tuning hints (`prefer-no-gather`) as if they were missing
    instructions. What really fails is raised as an exception all the same. A level that a person chose is kept.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
