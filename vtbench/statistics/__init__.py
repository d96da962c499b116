"""Uncertainty and comparison of numbers. NumPy and SciPy only, never torch."""
