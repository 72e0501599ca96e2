"""Tests run in double precision on two CPU devices, with warnings as errors and the compilation cache on."""

import gc
import os
import platform
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("STEMJAX_TYPECHECK", "1")
# XLA prints a page for every program from the cache on processors with AVX-512 (stemjax.core.setup.hush).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Most of the time of a test goes into compilation; code that is not polished, for narrow vectors and by the older of
# XLA's two ways to fuse loops, is ready in half the time. `make test-slow` lets XLA do its best: there it pays.
# (A flag that XLA does not know ends the process: that of the older fusion is gone from jaxlib 0.12.)
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10.")
    + " --xla_cpu_max_isa=SSE4_2" * (platform.machine() in ("x86_64", "AMD64")),
)

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parent

# Tracing makes millions of small objects that live; looking for dead cycles among them all was a tenth of the time.
gc.set_threshold(100_000, 50, 100)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Compilation makes the first example slow; the same examples every time keep a red test red.
hypothesis.settings.register_profile("stemjax", deadline=None, derandomize=True)
hypothesis.settings.load_profile("stemjax")


MAPPINGS = 25_000
"""Memory mappings after which compiled programs are let go. Every program takes some, Linux grants a process 65,530,
and jaxlib dies of a segmentation fault when they are used up: so would a worker that runs half of all tests."""


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go():
    """Compiled programs do not pile up from file to file."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real microscope data; the test is skipped where there is none."""
    folder = Path(os.environ.get("STEMJAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of microscope data; set STEMJAX_DATA")
    return folder
