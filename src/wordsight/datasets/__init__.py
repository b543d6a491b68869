"""Sets of images on disk: find them, read labels and boxes, convert formats, keep licences."""
