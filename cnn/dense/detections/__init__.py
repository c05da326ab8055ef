"""Detections: the windows of a score map that hold an object, one for each, and the files that people open them from.

`found` finds them band by band of a map of any size: `regions` says which windows reach the threshold, `peaks` which of
these are local maxima, `suppression` which of these are kept. `write` writes them as CSV or GeoJSON.
"""
