from .labels import Prelabels as Prelabels, prelabel as prelabel
from .model import ExportedModel as ExportedModel, export as export
