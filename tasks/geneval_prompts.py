"""Shim: until the sweep."""

from vtbench.tasks.geneval.prompts import make as make
from vtbench.tasks.geneval.vocabulary import COCO as COCO
from vtbench.tasks.prompts.quotes import quotes as quotes
