"""`stemjax init`: a commented configuration, filled with what a file tells."""

from __future__ import annotations

from pathlib import Path

from stemjax.app.config import PROBLEMS
from stemjax.core.errors import InputError, nearest
from stemjax.forward.recording import Recording

_DATA_ENTRIES = (
    ("energy", "80 keV", "kinetic energy of the beam"),
    ("scan_step", "0.5 Å", "step of the scan, one value or [y, x]"),
    ("detector_sampling", "1.2 mrad", "size of a detector pixel, one value or [y, x]"),
    ("semiangle", "21.4 mrad", "convergence semi-angle"),
)


def write_config(problem: str, file: Path, target: Path | None = None, *, force: bool = False) -> Path:
    """Write a configuration for a file.

    Args:
        problem: "ptychography" (FILE is 4D-STEM data) or "simulation" (FILE is a file of atoms).
        file: The file.
        target: The configuration; PROBLEM.yaml in the current folder where it is None.
        force: Whether an existing file may be replaced.

    Returns:
        The path that was written.

    Raises:
        InputError: The problem is not known, the file cannot be read, or the target exists.
    """
    if problem not in PROBLEMS:
        raise InputError(f"unknown problem '{problem}'; {nearest(problem, PROBLEMS)}")
    target = target or Path(f"{problem}.yaml")
    if target.exists() and not force:
        raise InputError(f"{target} exists; choose another name with -o, or --force to replace it")
    if not file.is_file():
        raise InputError(f"no file {file}; give the path of {_wanted(file, problem)}")
    from stemjax.io import read_recording, write_atomically

    name = _relative(file, target)
    if problem == "ptychography":
        text = ptychography_text(read_recording(file, lazy=True), name)
    else:
        _check_atoms(file)
        text = simulation_text(name)
    write_atomically(target, text)
    return target


def ptychography_text(recording: Recording, file: str) -> str:
    """The text of a ptychography configuration: what the recording tells as comments, what it lacks to be filled in."""
    ny, nx = recording.scan_shape
    ky, kx = recording.detector_shape
    lines = [
        "# A ptychographic reconstruction. Every key: docs/configuration.md. Try `stemjax check` before `stemjax run`.",
        "problem: ptychography",
        "data:",
        f"  file: {_quoted(file)}",
        f"  # from the file: {ny} × {nx} patterns of {ky} × {kx} pixels",
        *(_data_line(recording, *entry) for entry in _DATA_ENTRIES),
        "  # electrons_per_count: 1" + _told("electrons_per_count", recording.electrons_per_count),
        "probe:",
        "  defocus: auto" + _told("defocus", recording.defocus, otherwise="  # estimated from the data"),
        "object:",
        "  kind: phase  # or complex, potential",
        "refine:",
        "  object: true",
        "  probe: after 5",
        "solver:",
        "  epochs: 40",
    ]
    return "\n".join(lines) + "\n"


def simulation_text(file: str) -> str:
    """The text of a simulation configuration for a file of atoms."""
    return f"""\
# A simulated recording. Every key: docs/configuration.md. Try `stemjax check` before `stemjax simulate`.
problem: simulation
specimen:
  file: {_quoted(file)}
  zone_axis: [0, 0, 1]
  thickness: 10 nm
potential:
  sampling: 0.06 Å  # carries angles up to 139 mrad at 200 keV
probe:
  energy: 200 keV
  semiangle: 20 mrad
  defocus: 0
scan:
  shape: [32, 32]
  step: 0.4 Å
detector:
  annular: {{HAADF: [60, 130]}}
dose:
  per_area: 1e5 e/Å^2
"""


def _check_atoms(file: Path) -> None:
    from ase.io import read

    try:
        read(file)
    # ase's readers raise whatever their parsers stumble over.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"ase reads no atoms from {file} ({reason}); give a cif, xyz, vasp, ... file") from None


def with_unit(name: str, value: object) -> str:
    """A value of a recording as a person writes it.

    >>> with_unit("energy", 80e3), with_unit("scan_step", (0.5, 0.5))
    ('80 keV', '0.5 Å')
    """
    if isinstance(value, tuple):
        parts = [with_unit(name, entry) for entry in value]
        return parts[0] if len(set(parts)) == 1 else f"[{', '.join(parts)}]"
    scale, unit = {
        "energy": (1e-3, " keV"),
        "scan_step": (1.0, " Å"),
        "defocus": (1.0, " Å"),
        "detector_sampling": (1.0, " mrad"),
        "semiangle": (1.0, " mrad"),
    }.get(name, (1.0, ""))
    return f"{float(value) * scale:.6g}{unit}"  # type: ignore[arg-type]


def _data_line(recording: Recording, name: str, example: str, meaning: str) -> str:
    value = getattr(recording, name)
    if value is None:
        return f"  {name}:  # needed, the file does not tell: {meaning}, such as {example}"
    return f"  # {name}: {with_unit(name, value)}  # from the file; take the first # away to overrule it"


def _told(name: str, value: object, otherwise: str = "") -> str:
    return otherwise if value is None else f"  # from the file: {with_unit(name, value)}"


def _wanted(file: Path, problem: str) -> str:
    from stemjax.io.failures import what_is_there

    return f"the data; {what_is_there(file)}" if problem == "ptychography" else "the atoms"


def _relative(file: Path, target: Path) -> str:
    """The file as seen from the folder of the configuration where it lies in it, else its whole path."""
    place, folder = file.resolve(), target.resolve().parent
    return place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)


def _quoted(text: str) -> str:
    """Text that YAML reads as text whatever it holds."""
    if all(c.isalnum() or c in "/._-" for c in text) and not text[:1].isdigit() and text[:1] not in "-.":
        return text
    return "'" + text.replace("'", "''") + "'"
