from .gradients import (
    list_heatmap_methods as list_heatmap_methods,
    register_heatmap_method as register_heatmap_method,
)
from .grid import Grid as Grid
from .heatmap import Heatmap as Heatmap, HeatmapSettings as HeatmapSettings
