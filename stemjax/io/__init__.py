"""Floor 6: files. One door for recordings (`read_recording`) and one format for results (`write_result`)."""

from stemjax.io.atomic import atomic_file, atomic_hdf5, write_atomically
from stemjax.io.checks import check_counts, check_optics, corrected_counts
from stemjax.io.checksum import sha256
from stemjax.io.describe import describe_file
from stemjax.io.hdf5_native import write_recording
from stemjax.io.probe import probe
from stemjax.io.read import read_recording
from stemjax.io.results import read_result, write_result

__all__ = [
    "atomic_file",
    "atomic_hdf5",
    "check_counts",
    "check_optics",
    "corrected_counts",
    "describe_file",
    "probe",
    "read_recording",
    "read_result",
    "sha256",
    "write_atomically",
    "write_recording",
    "write_result",
]
