"""Whether error bars hold, and which of several models the data prefer."""
