"""A task of one quick metric, at the images' own sizes: `QUICK` of monitored.py names it."""

from vtbench import Task

TASK = Task(name="psnr-alone", title="PSNR alone", version=1, suites=(), view="native", metrics=("psnr",))
