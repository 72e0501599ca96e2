"""Densities of what is unknown, and their strengths from the data."""
