"""Floor 6: figures and the self-contained HTML page of a result; matplotlib is imported here alone."""
