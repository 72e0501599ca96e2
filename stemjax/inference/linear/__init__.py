"""Linear algebra by products alone."""
