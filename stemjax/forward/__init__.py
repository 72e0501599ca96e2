"""Floor 3: the experiment as one pytree, what is recorded of it, and the functions from one to the other."""
