"""Handlers, a module for each group of endpoints, each with its rows of the route table."""
