"""Energy-loss spectra: edges, low loss, plural scattering, gain and loss, momentum transfer, delocalisation.

Every function is differentiable in its real arguments. `docs/spectra.md` says what each approximation leaves out.
"""
