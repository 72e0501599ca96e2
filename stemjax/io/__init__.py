"""Floor 6: files. One door for recordings (`read_recording`) and one format for results (`write_result`)."""

from stemjax.io.atomic import atomic_file, atomic_hdf5, write_atomically
from stemjax.io.blocks import PatternStream
from stemjax.io.checks import check_counts, check_optics, corrected_counts
from stemjax.io.checksum import sha256
from stemjax.io.dataset import read_dataset, read_truth, write_dataset
from stemjax.io.describe import describe_file
from stemjax.io.emd_writer import write_emd
from stemjax.io.hdf5_native import write_recording
from stemjax.io.hyperspy_writer import write_hyperspy
from stemjax.io.probe import probe
from stemjax.io.read import read_recording
from stemjax.io.results import read_result, write_result

__all__ = [
    "PatternStream",
    "atomic_file",
    "atomic_hdf5",
    "check_counts",
    "check_optics",
    "corrected_counts",
    "describe_file",
    "probe",
    "read_dataset",
    "read_recording",
    "read_result",
    "read_truth",
    "sha256",
    "write_atomically",
    "write_dataset",
    "write_emd",
    "write_hyperspy",
    "write_recording",
    "write_result",
]
