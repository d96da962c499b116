"""Scripts that measure vtbench itself."""
