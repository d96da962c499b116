"""Manifests of the built-in suites, one line an image, and the scripts that made them."""
