from .gradients import list_heatmap_methods as list_heatmap_methods
from .gradients import register_heatmap_method as register_heatmap_method
from .grid import Grid as Grid
from .heatmap import Heatmap as Heatmap
from .heatmap import HeatmapSettings as HeatmapSettings
