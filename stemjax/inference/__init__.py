"""Floor 4: what is unknown, what is believed of it, and from data to estimates with error bars.

Here: the statement (`problem`, `ties`, `joint`, `data_sets`) and what comes out (`result`, `gaussian`, `derived`).
Below: `priors`, `solvers`, `posteriors`, `bounds`, `trust`, and their linear algebra, `linear`.
"""
