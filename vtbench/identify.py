"""Shim: until the sweep."""

from vtbench.models.arch import flatten as flatten
from vtbench.models.arch import option_text as _text
from vtbench.models.arch import own_card as own_card
from vtbench.models.arch import with_options as with_options
from vtbench.models.identify import Match as Match
from vtbench.models.identify import identify as identify
from vtbench.models.identify import identify_file as identify_file

__all__ = ["_text"]
