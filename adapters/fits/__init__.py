"""Fits of the built-in tokenizers and the scripts that made them."""
