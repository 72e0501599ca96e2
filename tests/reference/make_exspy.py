"""Hydrogen-like cross-sections by exspy, for tests/physics/test_spectra.py.

In an environment of its own (`pip install exspy==0.3.2`), from the root of the repository:

    python tests/reference/make_exspy.py

exspy follows Egerton's programs SIGMAK3 and SIGMAL3. Its onsets are written down, so that thresholds are not compared.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parent / "exspy_edges.json"
EDGES = ("C_K", "N_K", "O_K", "Al_K", "Si_K", "Si_L3", "Ti_L3", "Mn_L3", "Fe_L3", "Cu_L3", "Sr_L3")
CONDITIONS = ((60.0, 20.0), (100.0, 10.0), (200.0, 10.0), (200.0, 33.0), (300.0, 100.0))
WINDOWS = (20.0, 50.0, 100.0)
LOSSES = (1.0, 5.0, 20.0, 50.0, 100.0, 200.0)


def records(name: str) -> dict:
    """Onsets [eV] and, for every beam energy [keV] and aperture [mrad], σ [barn] and dσ/dE [barn/eV]."""
    from exspy._misc.eels.hydrogenic_gos import HydrogenicGOS

    edge = HydrogenicGOS(name)
    # Steps of 0.2 eV from the onset on: its own axis is too coarse for a window of 20 eV.
    edge.energy_axis = edge.onset_energy + np.arange(0.0, 205.0, 0.2)
    found = {"onset": edge.onset_energy, "conditions": []}
    if name.endswith("L3"):
        shells = edge.element_dict["Atomic_properties"]["Binding_energies"]
        found |= {"L1": edge.onset_energy_L1, "L2": shells["L2"]["onset_energy (eV)"]}
    for beam, angle in CONDITIONS:
        density = edge.integrateq(edge.onset_energy, 1e-3 * angle, beam)
        loss = edge.onset_energy + np.linspace(0.0, 200.0, 20001)
        values = density(loss)
        areas = [float(np.trapezoid(values[loss <= loss[0] + w + 1e-6], dx=0.01)) for w in WINDOWS]
        points = [float(density(edge.onset_energy + x)) for x in LOSSES]
        found["conditions"].append({"beam_keV": beam, "beta_mrad": angle, "sigma": areas, "density": points})
    return found


def main() -> None:
    import exspy

    edges = {name: records(name) for name in EDGES}
    content = {"exspy": exspy.__version__, "windows_eV": WINDOWS, "losses_eV": LOSSES, "edges": edges}
    FILE.write_text(json.dumps(content, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
