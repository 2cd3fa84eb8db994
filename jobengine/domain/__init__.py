"""Nouns and arithmetic: the values the system speaks of, and the rules that hold between them."""
