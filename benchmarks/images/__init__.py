"""Image formats: what is read, against a second decoder."""
