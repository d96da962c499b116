"""Every metric against its reference, every statistic against a simulation: writes docs/metrics.md."""
