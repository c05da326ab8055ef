"""Where maps are written: an array, a .npy, a .zarr, an OME-Zarr with a pyramid, a GeoTIFF, behind one interface."""
