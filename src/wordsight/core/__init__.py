"""Files, folders, threads, progress and plug-ins. Knows nothing of images."""
