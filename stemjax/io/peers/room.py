"""Room for every probe's window: vacuum around an object that is too small for a program without clipped windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemjax.io.peers.state import Reconstruction


def with_room(state: Reconstruction, margin: int = 0) -> Reconstruction:
    """The same state with vacuum (transmission 1) around it where a window would reach over an edge.

    Args:
        state: The state.
        margin: Pixels beyond the windows that shall be there as well.

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
    before = np.maximum(margin - corner.min(axis=0), 0)
    after = np.maximum(corner.max(axis=0) + window + margin - shape, 0)
    if not (before.any() or after.any()):
        return state
    widths = ((0, 0), *zip(before.tolist(), after.tolist(), strict=True))
    return replace(
        state,
        transmission=np.pad(state.transmission, widths, constant_values=1.0),
        positions=state.positions + before * np.array(state.sampling),
    )
