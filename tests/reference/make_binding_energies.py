"""Write `stemjax/spectra/tables/binding_energies.csv` from xraylib's table of absorption edges.

In an environment of its own (`pip install xraylib==4.3.0`), from the root of the repository:

    python tests/reference/make_binding_energies.py
"""

from __future__ import annotations

from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "stemjax" / "spectra" / "tables" / "binding_energies.csv"
SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
HEADER = """\
# Thresholds of the K, L and M shells of the free elements, Z = 1 to 92 [eV]; empty where there is none.
# Source: the absorption edges distributed with xraylib 4.3.0 (BSD licence; T. Schoonjans et al., Spectrochim. Acta B 66
# (2011) 776). Those compared with J. A. Bearden and A. F. Burr, Rev. Mod. Phys. 39 (1967) 125, agree (C, N, O, Si,
# Ti, Fe, Cu; tests/spectra/test_edges.py).
# An onset in a compound differs by its chemical shift, a few eV. Remade by tests/reference/make_binding_energies.py.
"""


def main() -> None:
    import xraylib

    lines = [HEADER + "Z,symbol," + ",".join(SHELLS)]
    for number in range(1, 93):
        row = [str(number), xraylib.AtomicNumberToSymbol(number)]
        for shell in range(len(SHELLS)):
            try:
                row.append(f"{1e3 * xraylib.EdgeEnergy(number, shell):.6g}")
            except ValueError:
                row.append("")
        lines.append(",".join(row))
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
