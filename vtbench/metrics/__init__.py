"""One file a family of metrics; every module lists its metrics in `METRICS`."""
