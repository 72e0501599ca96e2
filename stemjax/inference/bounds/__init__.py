"""What the data can tell at best, what they cannot see, and the experiment that tells most."""
