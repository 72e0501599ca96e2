"""How far abTEM's own projected potentials are from the exact structure factors; prints the table of README.md.

Run in the environment of the peers from the root of the repository::

    .venv-peers/bin/python -m tests.reference.measure_projection
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tests.reference.make_abtem import configure, own_tile_potential, tile_potential
from tests.reference.specimens import SPECIMENS, Specimen
from tests.reference.structure_factors import frequencies

EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3)


def radial_gain(s: Specimen, own: np.ndarray) -> list[float]:
    """Least-squares factor between abTEM's and the exact Fourier coefficients, in rings of k × pixel."""
    a, b = (np.fft.fft2(v.sum(axis=0)) for v in (own, tile_potential(s)))
    ky, kx = frequencies(s.tile_shape, s.sampling)
    radius = np.hypot(ky, kx) * max(s.sampling)
    rings = [(radius > lo) & (radius <= hi) for lo, hi in pairwise(EDGES)]
    power = [(abs(b[m]) ** 2).sum() for m in rings]
    return [(a[m] * b[m].conj()).real.sum() / p if p > 0 else np.nan for m, p in zip(rings, power, strict=True)]


def predicted_gain() -> list[float]:
    """What sin(k)/k in place of the pixel's sinc(k) would give for an atom on a pixel, at the middle of the rings."""
    middle = (np.array(EDGES[:-1]) + np.array(EDGES[1:])) / 2
    return list(middle / np.sin(middle))


def main() -> None:
    """Print the table."""
    configure()
    print("k × pixel up to     " + " ".join(f"{e:6.2f}" for e in EDGES[1:]))
    for s in (make() for make in SPECIMENS):
        for projection, factor in (("infinite", 1), ("infinite", 4), ("finite", 1), ("finite", 12)):
            own = own_tile_potential(s, factor, projection)
            gains = " ".join(f"{g:6.4f}" for g in radial_gain(s, own))
            print(f"{s.name:8s}{projection:9s}{factor:2d} {gains}")
    print("on a pixel, 1/sinc  " + " ".join(f"{g:6.4f}" for g in predicted_gain()))


if __name__ == "__main__":
    main()
