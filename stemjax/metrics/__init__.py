"""Floor 6: errors free of gauge, Fourier ring correlation, comparison of a result with the truth."""
