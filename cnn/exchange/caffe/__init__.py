"""Files of Caffe in."""
