from .labels import Prelabels as Prelabels, prelabel as prelabel
from .model import ExportedModel as ExportedModel, export as export
from .photos.journal import TakenBack as TakenBack
from .photos.keywords import (
    TakenBackKeywords as TakenBackKeywords,
    WrittenKeywords as WrittenKeywords,
    undo_keywords as undo_keywords,
    write_keywords as write_keywords,
)
from .photos.sorting import Sorted as Sorted, sort as sort, undo_sort as undo_sort
