"""Time abTEM's potential of SrTiO3, 8 x 8 x 16 cells, one slice a cell; prints JSON {side: median ms}.

Arguments: repeats, lattice constant [Å], sides of the grid. Runs in an environment that has abTEM, without stemjax.
"""

import json
import statistics
import sys
import time

import abtem
from ase.spacegroup import crystal


def build_time(atoms, side, slice_thickness, repeats):
    """Median time of a build after a first one that warms every cache [ms]."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        potential = abtem.Potential(
            atoms, gpts=side, slice_thickness=slice_thickness, projection="infinite", parametrization="lobato"
        )
        potential.build(lazy=False)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[1:])


def main():
    repeats, lattice = int(sys.argv[1]), float(sys.argv[2])
    abtem.config.set({"precision": "float32"})
    cell = [lattice, lattice, lattice, 90, 90, 90]
    sites = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
    atoms = crystal(["Sr", "Ti", "O"], sites, spacegroup=221, cellpar=cell) * (8, 8, 16)
    atoms.rattle(0.05, seed=1)
    print(json.dumps({side: build_time(atoms, int(side), lattice, repeats) for side in sys.argv[3:]}))


if __name__ == "__main__":
    main()
