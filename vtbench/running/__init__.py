"""Runs: what is asked, the one pipeline, and the folder that the answer is written to."""
