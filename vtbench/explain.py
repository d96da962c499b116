"""Shim: until the sweep."""

from vtbench.explaining.choices import ALIASES as ALIASES
from vtbench.explaining.choices import Choice as Choice
from vtbench.explaining.claims import Claim as Claim
from vtbench.explaining.claims import Explanation as Explanation
from vtbench.explaining.claims import Move as Move
from vtbench.explaining.explain import explain as explain
from vtbench.explaining.measure import FID_IMAGES as FID_IMAGES
