"""From a first guess to the most probable leaves."""
