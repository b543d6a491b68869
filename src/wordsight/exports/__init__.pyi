from .labels import Prelabels as Prelabels
from .labels import prelabel as prelabel
from .model import ExportedModel as ExportedModel
from .model import export as export
