"""From the most probable leaves to error bars and draws."""
