from .labels import Prelabels as Prelabels, prelabel as prelabel
from .model import ExportedModel as ExportedModel, export as export
from .photos.journal import TakenBack as TakenBack
from .photos.sorting import Sorted as Sorted, sort as sort, undo_sort as undo_sort
