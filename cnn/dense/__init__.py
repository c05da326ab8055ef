"""Dense evaluation: a classifier's score at every position of an image larger than its window."""

from cnn.dense.checking import CheckReport, check
from cnn.dense.cost import multiply_adds
from cnn.dense.detections.found import Detection, detect
from cnn.dense.detections.write import write_detections
from cnn.dense.grid import Grid, boxes, has_padding, native_stride, plan_grid
from cnn.dense.many_sizes import score_maps
from cnn.dense.maps import ScoreMap, average, score_map
from cnn.dense.planning import Plan, plan
from cnn.dense.prepared import PreparedNet, prepare
from cnn.dense.streaming.open_map import OpenedMap, open_map
from cnn.dense.streaming.stream_map import StreamResult, stream
from cnn.dense.to_pixels import best_boxes, class_map, heat_map
from cnn.images.source import open_image

__all__ = [
    "CheckReport",
    "Detection",
    "Grid",
    "OpenedMap",
    "Plan",
    "PreparedNet",
    "ScoreMap",
    "StreamResult",
    "average",
    "best_boxes",
    "boxes",
    "check",
    "class_map",
    "detect",
    "has_padding",
    "heat_map",
    "multiply_adds",
    "native_stride",
    "open_image",
    "open_map",
    "plan",
    "plan_grid",
    "prepare",
    "score_map",
    "score_maps",
    "stream",
    "write_detections",
]
