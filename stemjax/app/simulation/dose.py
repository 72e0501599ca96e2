"""How many electrons a simulation has."""

from __future__ import annotations

from stemjax.app.simulation.settings import SimulationSettings
from stemjax.forward.recording import electrons


def electrons_of_pattern(settings: SimulationSettings) -> float | None:
    """Electrons in one pattern, or None for noise-free intensities as fractions of the beam."""
    dose, scan = settings.dose, settings.scan
    if dose.per_pattern is not None:
        return dose.per_pattern
    if dose.current is not None:
        return electrons(dose.current, scan.dwell)
    return None if dose.per_area is None else dose.per_area * scan.step[0] * scan.step[1]
