"""What a person may write in a fit. The docstring under each field is its documentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stemjax.app.fit.beliefs import Beliefs, Changes
from stemjax.app.simulation.entries import Words
from stemjax.core.errors import InputError
from stemjax.core.quantity import Count, CountFromZero, Settings, Text, one_of
from stemjax.problems.ptychography.refine_settings import CountOrAuto

SOLVERS = ("least-squares", "lbfgs")
"""How the best values are found."""
POSTERIORS = ("laplace", "nuts", "variational", "none")
"""How the error bars are found."""


class FitSolverSettings(Settings):
    """How the most probable values are found."""

    method: Annotated[str, one_of(*SOLVERS)] = "least-squares"
    """least-squares (Levenberg-Marquardt) or lbfgs."""
    iterations: Count = 50
    """Steps at most."""


class PosteriorSettings(Settings):
    """How the error bars are found."""

    method: Annotated[str, one_of(*POSTERIORS)] = "laplace"
    """laplace (curvature at the optimum), nuts (samples; for up to some hundred unknowns), variational, or none."""
    draws: Count = 500
    """Draws of the posterior that are written (in every chain of nuts)."""
    chains: Count = 4
    """Chains of nuts."""
    warmup: Count = 300
    """Steps of every chain before its draws."""
    rank: CountFromZero = 0
    """Directions that a large problem's posterior is resolved in, and correlations of variational; 0 decides itself."""


class FitSettings(Settings):
    """Any leaf of a simulated experiment found from data, with its error bar."""

    problem: Literal["fit"]
    """The kind of problem."""
    simulation: Text
    """Configuration of a simulation: the experiment as first guessed."""
    data: Text | None = None
    """The recording (.h5, as `stemjax simulate` writes it); without it data are simulated from `truth`."""
    truth: Changes = Field(default_factory=dict)
    """Leaves in which simulated data differ from the first guess: path -> value, {add: value} or {rms: value}."""
    signals: Words = ()
    """Which signals are fitted: patterns, or names of detectors; all that count electrons if left out."""
    free: Beliefs
    """What is found: path of a leaf (or a pattern with *) -> what is known before: a spread, flat, {uniform: ..}."""
    solver: FitSolverSettings = Field(default_factory=FitSolverSettings)
    """How the most probable values are found."""
    posterior: PosteriorSettings = Field(default_factory=PosteriorSettings)
    """How the error bars are found."""
    seed: CountFromZero = 0
    """Seed of simulated data and of draws."""
    devices: CountOrAuto = "auto"
    """Number of devices (CPU cores or GPUs) to use; auto takes all."""

    @model_validator(mode="after")
    def _together(self) -> FitSettings:
        if self.data is not None and self.truth:
            raise InputError("truth makes simulated data, and data are given; keep one of them")
        return self
