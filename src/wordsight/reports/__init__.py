"""HTML pages, figures and contact sheets."""
