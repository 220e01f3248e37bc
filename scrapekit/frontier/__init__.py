"""Frontier: what is still to fetch and what has been seen."""
