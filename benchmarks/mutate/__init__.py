"""Deliberate faults in the code that decides numbers: do the tests see them? By hand, never in CI."""
