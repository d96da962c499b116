"""Records of runs -> tables, curves, ranks, comparisons. Never imports torch."""
