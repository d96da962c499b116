"""Pixels and where they come from: reading, views, rounding, serving, suites, pairs, prompts. THE reader is `stream`."""
