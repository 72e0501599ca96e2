"""Room for every probe's window, around an object over whose edges the windows reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemjax.io.peers.state import Reconstruction


def with_room(state: Reconstruction, *, periodic: bool = False) -> Reconstruction:
    """The same state with an object so large that every window of the probe lies inside.

    Args:
        state: The state.
        periodic: Whether the object goes on beyond its edges by repeating itself; else there is vacuum (transmission
        1).

    Returns:
        The state itself where there is room.

    >>> from stemjax.io.peers.state import make_reconstruction
    >>> small = make_reconstruction(np.full((6, 6), 1j), np.ones((4, 4)), [[0.0, 2.0]], (1.0, 1.0))
    >>> wide = with_room(small)
    >>> wide.transmission.shape, wide.positions.tolist()
    ((1, 8, 6), [[2.0, 2.0]])
    """
    window, shape = np.array(state.probe.shape[1:]), np.array(state.transmission.shape[1:])
    corner = np.round(state.positions / np.array(state.sampling)).astype(int) - window // 2
    before = np.maximum(-corner.min(axis=0), 0)
    after = np.maximum(corner.max(axis=0) + window - shape, 0)
    if not (before.any() or after.any()):
        return state
    widths = ((0, 0), *zip(before.tolist(), after.tolist(), strict=True))
    wider = (
        np.pad(state.transmission, widths, "wrap")
        if periodic
        else np.pad(state.transmission, widths, constant_values=1)
    )
    return replace(
        state,
        transmission=wider,
        positions=state.positions + before * np.array(state.sampling),
    )
