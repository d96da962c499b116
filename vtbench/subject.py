"""Shim: until the sweep."""

from vtbench.models.devices import synchronize as synchronize
from vtbench.models.objects import TrainingLoopModel as _Duck
from vtbench.models.outputs import Output as Produced
from vtbench.models.outputs import check_range as check_range
from vtbench.models.pictures import SavedPictures as FolderSubject
from vtbench.models.pictures import image_seed as image_seed
from vtbench.models.pictures import pair_names as pair_names
from vtbench.models.pictures import stem as stem
from vtbench.models.system import ModelSystem as ModelSubject
from vtbench.models.system import System as Subject

__all__ = ["FolderSubject", "ModelSubject", "Produced", "Subject", "_Duck"]
