"""Shim: until the sweep."""

from vtbench.images.prompts import GENEVAL_PROMPTS as GENEVAL_PROMPTS
from vtbench.images.prompts import GENEVAL_URL as GENEVAL_URL
from vtbench.images.prompts import PromptSuite as PromptSuite
from vtbench.images.prompts import builtin_prompts as builtin_prompts
from vtbench.images.prompts import checked as checked
from vtbench.images.prompts import manifest as manifest
from vtbench.images.prompts import open_prompts as open_prompts
from vtbench.images.seeds import sample_seed as sample_seed

builtin = builtin_prompts
