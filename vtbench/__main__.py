"""`python -m vtbench` is the command `vtbench`."""

from vtbench.cli import main

main()
