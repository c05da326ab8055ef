"""Score maps of images of any size, from file to file, tile by tile."""
