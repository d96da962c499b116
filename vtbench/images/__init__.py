"""Pixels and where they come from: reading, views, rounding, serving, suites, pairs, prompts. One reader: `stream`."""
