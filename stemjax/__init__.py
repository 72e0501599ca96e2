"""Differentiable simulation and reconstruction for scanning transmission electron microscopy."""

__version__ = "0.1.0.dev0"
