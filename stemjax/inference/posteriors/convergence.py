r"""Whether chains of draws have converged and how much they are worth, in numbers and in words.

Rank-normalised split R-hat and the effective number of draws in the bulk and in the tails: Vehtari, Gelman, Simpson,
Carpenter, Bürkner, Bayesian Analysis 16 (2021) 667. The fraction of missing information of the energy: Betancourt,
arXiv:1604.00695 (2016). Computed by arviz.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemjax.core.errors import InputError

R_HAT = 1.01
"""Greatest R-hat of chains that agree (Vehtari et al., section 4)."""

EFFECTIVE_PER_CHAIN = 100
"""Fewest effective draws a chain for variances to be trusted (Vehtari et al., section 4: 400 for four chains)."""

MISSING_INFORMATION = 0.3
"""Least fraction of the energy's variance that one draw explores (Betancourt 2016; Stan warns below it)."""


@dataclass(frozen=True)
class Convergence:
    """What the draws of several chains are worth; made by `convergence`.

    Args:
        r_hat: Rank-normalised split R-hat of every element, by name; 1 where all chains agree.
        ess_bulk: Effective draws of all chains together for means, by name.
        ess_tail: Effective draws for the 5 % and 95 % quantiles, by name.
        chains: Number of chains.
        draws: Draws in a chain.
        divergences: Draws whose trajectory ran away.
        missing_information: Least of the chains' energy fractions (E-BFMI); 1 where no energy was given.
    """

    r_hat: Mapping[str, np.ndarray]
    ess_bulk: Mapping[str, np.ndarray]
    ess_tail: Mapping[str, np.ndarray]
    chains: int
    draws: int
    divergences: int = 0
    missing_information: float = 1.0

    @property
    def worst(self) -> tuple[float, float, float]:
        """Greatest R-hat and fewest effective draws in the bulk and in the tails."""
        return worst(self.r_hat)[1], -worst(self.ess_bulk, -1.0)[1], -worst(self.ess_tail, -1.0)[1]

    @property
    def converged(self) -> bool:
        """Whether the chains agree, hold draws enough and had no trajectory that ran away."""
        return not complaints(self)

    def __str__(self) -> str:
        return sentence(self)


def convergence(draws: Mapping[str, Any], *, divergences: Any = 0, energy: np.ndarray | None = None) -> Convergence:
    """Diagnose chains.

    Args:
        draws: Draws by name [chain draw ...]; an element that never moves is worth no draw.
        divergences: Which draws ran away [chain draw], or their number.
        energy: Energy of every draw [chain draw]; None leaves its fraction out.

    Raises:
        InputError: Fewer than four draws a chain, or a draw that is not finite.

    >>> import numpy as np
    >>> found = convergence({"a": np.random.default_rng(0).normal(size=(4, 500))})
    >>> found.converged, found.r_hat["a"].shape
    (True, ())
    >>> found = convergence({"a": np.random.default_rng(0).normal(size=(4, 500)) + np.arange(4)[:, None]})
    >>> print(found)
    4 chains of 500 draws, but the chains disagree (R-hat 1.5... for 'a', wanted 1.01); ...
    """
    from arviz_stats.base import array_stats

    arrays = {name: np.asarray(value, float) for name, value in draws.items()}
    chains, count = _shape(arrays)
    ends: dict[str, dict[str, np.ndarray]] = {"rhat": {}, "bulk": {}, "tail": {}}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{int((~np.isfinite(array)).sum())} draws of '{name}' are not finite; leave them out")
        flat = np.moveaxis(array.reshape(chains, count, -1), -1, 0)
        moving = np.ptp(flat, axis=(1, 2)) > 0
        for kind, found in ends.items():
            # Draws that never move are no draws: nothing was explored.
            values = np.full(len(flat), 1.0 if kind == "rhat" else 0.0)
            if moving.any():
                values[moving] = _measure(array_stats, kind, flat[moving])
            found[name] = values.reshape(array.shape[2:])
    least = 1.0 if energy is None else float(np.min(array_stats.bfmi(np.asarray(energy, float))))
    return Convergence(
        ends["rhat"], ends["bulk"], ends["tail"], chains, count, int(np.sum(np.asarray(divergences))), least
    )


def worst(values: Mapping[str, np.ndarray], sign: float = 1.0) -> tuple[str, float]:
    """The element with the greatest value (times a sign) and that value.

    >>> worst({"a": np.array(1.0), "b": np.array([0.0, 3.0])})
    ('b[1]', 3.0)
    """
    found = ("", -np.inf)
    for name, array in values.items():
        signed = sign * np.asarray(array, float)
        place = np.unravel_index(int(np.argmax(signed)), signed.shape)
        if signed[place] > found[1]:
            found = (f"{name}[{','.join(map(str, place))}]" if place else name, float(signed[place]))
    return found


def complaints(found: Convergence) -> list[str]:
    """What is wrong with some chains and what to do, a clause each; empty where nothing is."""
    said = []
    name, r_hat = worst(found.r_hat)
    if found.divergences:
        share = 100.0 * found.divergences / (found.chains * found.draws)
        said.append(
            f"{found.divergences} divergence{'s' if found.divergences > 1 else ''} ({share:.2g} %): the "
            "density has corners that the steps do not enter; "
            "take smaller steps (Nuts(acceptance=0.95)), or state the leaf on a scale where it is rounder"
        )
    if not r_hat <= R_HAT:
        said.append(
            f"the chains disagree (R-hat {r_hat:.3g} for '{name}', wanted {R_HAT}); draw more, or search for false "
            "minima"
        )
    fewest = {"bulk": worst(found.ess_bulk, -1.0), "tails": worst(found.ess_tail, -1.0)}
    part, (name, effective) = max(fewest.items(), key=lambda item: item[1][1])
    wanted = EFFECTIVE_PER_CHAIN * found.chains
    if not -effective >= wanted:
        said.append(
            f"only {-effective:.0f} effective draws in the {part} of '{name}', wanted {wanted}; draw "
            f"{min(99.0, np.ceil(wanted / max(-effective, 1.0))):.0f} times as many"
        )
    if found.missing_information < MISSING_INFORMATION:
        said.append(
            f"the energy is explored slowly (E-BFMI {found.missing_information:.2g}, wanted {MISSING_INFORMATION}): "
            "the tails are heavy; give tighter priors or draw more"
        )
    return said


def sentence(found: Convergence) -> str:
    """How the chains ended, for a person.

    >>> one = {"a": np.array(1.0)}
    >>> sentence(Convergence(one, {"a": np.array(820.0)}, {"a": np.array(900.0)}, 4, 500))
    '4 chains of 500 draws, R-hat at most 1.000, at least 820 effective draws; no divergences'
    """
    drawn = f"{found.chains} chain{'s' if found.chains > 1 else ''} of {found.draws} draws"
    said = complaints(found)
    if said:
        return f"{drawn}, but {'; also '.join(said)}"
    r_hat, bulk, tail = found.worst
    return f"{drawn}, R-hat at most {r_hat:.3f}, at least {min(bulk, tail):.0f} effective draws; no divergences"


def _measure(arviz: Any, kind: str, flat: np.ndarray) -> np.ndarray:
    if kind == "rhat":
        return np.asarray(arviz.rhat(flat))
    return np.asarray(arviz.ess(flat) if kind == "bulk" else arviz.ess(flat, method="tail", prob=(0.05, 0.95)))


def _shape(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    shapes = {array.shape[:2] for array in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or next(iter(shapes))[1] < 4:
        raise InputError(f"draws of shapes {sorted(shapes)}; give [chain draw ...], the same for all, 4 draws or more")
    chains, count = next(iter(shapes))
    return int(chains), int(count)
