"""One image or clip file: decode, measure, compare. No network."""
