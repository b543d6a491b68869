"""Where a network looked: maps, regions, windows, grids, and how they are drawn."""
