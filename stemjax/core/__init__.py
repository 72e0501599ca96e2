"""Floor 0: array types, units, dotted paths, grids, Fourier helpers and the executor."""
