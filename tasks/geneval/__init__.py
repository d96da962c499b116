"""Shim: until the sweep."""

from vtbench.tasks.geneval.cases import check_metadata as check_metadata
from vtbench.tasks.geneval.cases import read_cases as read_cases
from vtbench.tasks.geneval.scores import Scores as Scores
from vtbench.tasks.geneval.scores import score_file as score_file
from vtbench.tasks.geneval.scores import summarise as summarise
from vtbench.tasks.geneval.verdicts import Detection as Detection
from vtbench.tasks.geneval.verdicts import Verdict as Verdict
from vtbench.tasks.geneval.verdicts import judge as judge
from vtbench.tasks.geneval.verdicts import kept as kept
from vtbench.tasks.geneval.verdicts import relations as relations
from vtbench.tasks.geneval.verdicts import verdict as verdict
from vtbench.tasks.geneval.vocabulary import CATEGORIES as CATEGORIES
from vtbench.tasks.geneval.vocabulary import COLORS as COLORS
from vtbench.tasks.geneval.vocabulary import COMPLETE as COMPLETE
from vtbench.tasks.geneval.vocabulary import RELATIONS as RELATIONS

TASKS = CATEGORIES
