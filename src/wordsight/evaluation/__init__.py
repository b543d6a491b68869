"""Models and boxes measured on labelled images."""
