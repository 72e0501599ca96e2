"""Bloch waves of a thin perfect crystal from its Fourier coefficients, in plain numpy; nothing here imports stemjax."""

from __future__ import annotations

import numpy as np

from tests.physics.closed_forms import interaction_parameter, wavelength


def fourier_coefficients(projected: np.ndarray, thickness: float) -> np.ndarray:
    """Fourier coefficients of the potential, averaged along the beam, of one unit cell.

    Args:
        projected: Projected potential of the cell [y x] [V Å].
        thickness: Height of the cell along the beam [Å].

    Returns:
        V_g [ky kx] [V], zero frequency in the corner; V(r) = Σ_g V_g exp(2πi g·r).

    >>> complex(fourier_coefficients(np.full((4, 4), 30.0), 3.0)[0, 0])
    (10+0j)
    """
    return np.fft.fft2(projected) / (projected.size * thickness)


def choose_beams(shape: tuple[int, int], cell: tuple[float, float], limit: float) -> np.ndarray:
    """Indices (h_y, h_x) of the beams up to a spatial frequency, the straight beam first.

    Args:
        shape: Shape of the array of coefficients (ny, nx).
        cell: Sides of the cell (y, x) [Å].
        limit: Largest |g| [1/Å]; differences of beams must fit in the array, so at most half its Nyquist frequency.

    Returns:
        Indices [beam 2], by growing |g|.

    >>> choose_beams((16, 16), (4.0, 4.0), 0.3).tolist()
    [[0, 0], [-1, 0], [0, -1], [0, 1], [1, 0]]
    """
    hy, hx = (np.arange(-(n // 4), n // 4 + 1) for n in shape)
    beams = np.stack(np.meshgrid(hy, hx, indexing="ij"), axis=-1).reshape(-1, 2)
    length = np.hypot(*(beams / cell).T)
    order = np.argsort(length, kind="stable")
    return beams[order][length[order] <= limit]


def structure_matrix(
    coefficients: np.ndarray,
    beams: np.ndarray,
    cell: tuple[float, float],
    energy: float,
    transverse: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    r"""Hermitian matrix of the paraxial equation in beams, dψ/dz = i A ψ.

    .. math:: A_{gh} = -\pi \lambda |g + k_t|^2 \delta_{gh} + \sigma V_{g-h}

    Args:
        coefficients: V_g [ky kx] [V], from `fourier_coefficients`.
        beams: Indices [beam 2], from `choose_beams`.
        cell: Sides of the cell (y, x) [Å].
        energy: Kinetic energy of the beam [eV].
        transverse: Transverse part k_t of the incident wave vector (y, x) [1/Å].

    Returns:
        A [beam beam] [1/Å]. De Graef, Introduction to Conventional TEM (2003), chapter 5, in the paraxial limit:
        2 K₀ s_g there is −|g + k_t|² + |k_t|² here, up to a phase common to all beams.
    """
    difference = beams[:, None, :] - beams[None, :, :]
    coupling = coefficients[difference[..., 0], difference[..., 1]]
    frequency2 = ((beams / cell + np.asarray(transverse)) ** 2).sum(axis=-1)
    return interaction_parameter(energy) * coupling - np.diag(np.pi * wavelength(energy) * frequency2)


def beam_amplitudes(matrix: np.ndarray, thicknesses: np.ndarray) -> np.ndarray:
    """Amplitudes of the beams at some thicknesses, from the eigenvectors of the structure matrix.

    Args:
        matrix: A [beam beam] [1/Å]; the first beam is the one that enters, with amplitude 1.
        thicknesses: Thicknesses [thickness] [Å].

    Returns:
        ψ_g [thickness beam]; Σ_g |ψ_g|² = 1.
    """
    values, vectors = np.linalg.eigh(matrix)
    excitation = vectors[0].conj()
    phases = np.exp(1j * np.asarray(thicknesses)[:, None] * values)
    return (phases * excitation) @ vectors.T
