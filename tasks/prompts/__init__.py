"""Built-in prompt suites and the script that made them."""
