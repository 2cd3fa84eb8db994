"""Where state is kept: the port in domain verbs, and the stores that implement it."""
