"""The same work on Ray. The only importer of Ray."""
