"""Shim: until the sweep."""

from vtbench.scoring.scores import ImageTotals as ImageTotals
from vtbench.scoring.scores import feature_name as feature_name
from vtbench.scoring.scores import finalise as finalise
from vtbench.scoring.scores import from_set as from_set
from vtbench.scoring.scores import reference_features as reference_features
from vtbench.scoring.scores import speed_scores as speed_scores
from vtbench.scoring.scores import summarise as summarise
