"""The part of Caffe's messages that a classifier needs, for the protobuf library, which reads both of their forms."""

import functools
from typing import Any

from cnn.exchange.classifier import ExchangeError

# Message: "name:type=number" of each field; * for repeated. From caffe.proto (BVLC/caffe, BSD-2). Weights are declared
# as bytes: a packed list of floats and a run of bytes are written alike, and millions of Python floats are not made.
MESSAGES = {
    "BlobShape": "*dim:int64=1",
    "BlobProto": "num:int32=1 channels:int32=2 height:int32=3 width:int32=4 *data:bytes=5 shape:BlobShape=7 "
    "*double_data:bytes=8",
    "NetStateRule": "phase:Phase=1 min_level:int32=2 max_level:int32=3 *stage:string=4 *not_stage:string=5",
    "TransformationParameter": "scale:float=1 mirror:bool=2 crop_size:uint32=3 mean_file:string=4 *mean_value:float=5 "
    "force_color:bool=6 force_gray:bool=7",
    "DataParameter": "source:string=1 scale:float=2 mean_file:string=3 batch_size:uint32=4 crop_size:uint32=5",
    "ImageDataParameter": "source:string=1 scale:float=2 mean_file:string=3 batch_size:uint32=4 crop_size:uint32=5",
    "MemoryDataParameter": "batch_size:uint32=1 channels:uint32=2 height:uint32=3 width:uint32=4",
    "InputParameter": "*shape:BlobShape=1",
    "ConvolutionParameter": "num_output:uint32=1 bias_term:bool=2 *pad:uint32=3 *kernel_size:uint32=4 group:uint32=5 "
    "*stride:uint32=6 pad_h:uint32=9 pad_w:uint32=10 kernel_h:uint32=11 kernel_w:uint32=12 stride_h:uint32=13 "
    "stride_w:uint32=14 axis:int32=16 *dilation:uint32=18",
    "PoolingParameter": "pool:PoolMethod=1 kernel_size:uint32=2 stride:uint32=3 pad:uint32=4 kernel_h:uint32=5 "
    "kernel_w:uint32=6 stride_h:uint32=7 stride_w:uint32=8 pad_h:uint32=9 pad_w:uint32=10 global_pooling:bool=12 "
    "round_mode:RoundMode=13",
    "LRNParameter": "local_size:uint32=1 alpha:float=2 beta:float=3 norm_region:NormRegion=4 k:float=5",
    "InnerProductParameter": "num_output:uint32=1 bias_term:bool=2 axis:int32=5 transpose:bool=6",
    "DropoutParameter": "dropout_ratio:float=1",
    "ReLUParameter": "negative_slope:float=1",
    "PReLUParameter": "channel_shared:bool=2",
    "ELUParameter": "alpha:float=1",
    "BatchNormParameter": "use_global_stats:bool=1 moving_average_fraction:float=2 eps:float=3",
    "ScaleParameter": "axis:int32=1 num_axes:int32=2 bias_term:bool=4",
    "BiasParameter": "axis:int32=1 num_axes:int32=2",
    "PowerParameter": "power:float=1 scale:float=2 shift:float=3",
    "FlattenParameter": "axis:int32=1 end_axis:int32=2",
    "SoftmaxParameter": "axis:int32=2",
    "LayerParameter": "name:string=1 type:string=2 *bottom:string=3 *top:string=4 *blobs:BlobProto=7 "
    "*include:NetStateRule=8 *exclude:NetStateRule=9 transform_param:TransformationParameter=100 "
    "convolution_param:ConvolutionParameter=106 data_param:DataParameter=107 dropout_param:DropoutParameter=108 "
    "image_data_param:ImageDataParameter=115 inner_product_param:InnerProductParameter=117 lrn_param:LRNParameter=118 "
    "memory_data_param:MemoryDataParameter=119 pooling_param:PoolingParameter=121 power_param:PowerParameter=122 "
    "relu_param:ReLUParameter=123 softmax_param:SoftmaxParameter=125 prelu_param:PReLUParameter=131 "
    "flatten_param:FlattenParameter=135 batch_norm_param:BatchNormParameter=139 elu_param:ELUParameter=140 "
    "bias_param:BiasParameter=141 scale_param:ScaleParameter=142 input_param:InputParameter=143",
    "V0LayerParameter": "name:string=1 type:string=2",
    "V1LayerParameter": "layer:V0LayerParameter=1 *bottom:string=2 *top:string=3 name:string=4 type:V1Type=5 "
    "*blobs:BlobProto=6 convolution_param:ConvolutionParameter=10 data_param:DataParameter=11 "
    "dropout_param:DropoutParameter=12 image_data_param:ImageDataParameter=15 "
    "inner_product_param:InnerProductParameter=17 lrn_param:LRNParameter=18 pooling_param:PoolingParameter=19 "
    "power_param:PowerParameter=21 memory_data_param:MemoryDataParameter=22 relu_param:ReLUParameter=30 "
    "*include:NetStateRule=32 *exclude:NetStateRule=33 transform_param:TransformationParameter=36 "
    "softmax_param:SoftmaxParameter=39",
    "NetParameter": "name:string=1 *layers:V1LayerParameter=2 *input:string=3 *input_dim:int32=4 "
    "*input_shape:BlobShape=8 *layer:LayerParameter=100",
}

ENUMS = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "RoundMode": {"CEIL": 0, "FLOOR": 1},
    "NormRegion": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    # Their later names, by which the layers of both generations are read.
    "V1Type": {
        "NONE": 0,
        "ACCURACY": 1,
        "BNLL": 2,
        "CONCAT": 3,
        "CONVOLUTION": 4,
        "DATA": 5,
        "DROPOUT": 6,
        "EUCLIDEAN_LOSS": 7,
        "FLATTEN": 8,
        "HDF5_DATA": 9,
        "HDF5_OUTPUT": 10,
        "IM2COL": 11,
        "IMAGE_DATA": 12,
        "INFOGAIN_LOSS": 13,
        "INNER_PRODUCT": 14,
        "LRN": 15,
        "MULTINOMIAL_LOGISTIC_LOSS": 16,
        "POOLING": 17,
        "RELU": 18,
        "SIGMOID": 19,
        "SOFTMAX": 20,
        "SOFTMAX_LOSS": 21,
        "SPLIT": 22,
        "TANH": 23,
        "WINDOW_DATA": 24,
        "ELTWISE": 25,
        "POWER": 26,
        "SIGMOID_CROSS_ENTROPY_LOSS": 27,
        "HINGE_LOSS": 28,
        "MEMORY_DATA": 29,
        "ARGMAX": 30,
        "THRESHOLD": 31,
        "DUMMY_DATA": 32,
        "SLICE": 33,
        "MVN": 34,
        "ABSVAL": 35,
        "SILENCE": 36,
        "CONTRASTIVE_LOSS": 37,
        "EXP": 38,
        "DECONVOLUTION": 39,
    },
}

V1_NAMES = {
    "INNER_PRODUCT": "InnerProduct",
    "RELU": "ReLU",
    "TANH": "TanH",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "LRN": "LRN",
    "HDF5_DATA": "HDF5Data",
    "IMAGE_DATA": "ImageData",
    "MEMORY_DATA": "MemoryData",
    "WINDOW_DATA": "WindowData",
    "DUMMY_DATA": "DummyData",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "MVN": "MVN",
    "HDF5_OUTPUT": "HDF5Output",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "HINGE_LOSS": "HingeLoss",
    "ABSVAL": "AbsVal",
    "INFOGAIN_LOSS": "InfogainLoss",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
}

DEFAULTS = {
    "ConvolutionParameter.bias_term": "true",
    "ConvolutionParameter.group": "1",
    "ConvolutionParameter.axis": "1",
    "PoolingParameter.stride": "1",
    "LRNParameter.local_size": "5",
    "LRNParameter.alpha": "1",
    "LRNParameter.beta": "0.75",
    "LRNParameter.k": "1",
    "InnerProductParameter.bias_term": "true",
    "InnerProductParameter.axis": "1",
    "DropoutParameter.dropout_ratio": "0.5",
    "ELUParameter.alpha": "1",
    "BatchNormParameter.eps": "1e-05",
    "BatchNormParameter.moving_average_fraction": "0.999",
    "ScaleParameter.axis": "1",
    "ScaleParameter.num_axes": "1",
    "BiasParameter.axis": "1",
    "BiasParameter.num_axes": "1",
    "PowerParameter.power": "1",
    "PowerParameter.scale": "1",
    "FlattenParameter.axis": "1",
    "FlattenParameter.end_axis": "-1",
    "SoftmaxParameter.axis": "1",
    "TransformationParameter.scale": "1",
    "DataParameter.scale": "1",
    "ImageDataParameter.scale": "1",
}


@functools.cache
def message(name: str, unpacked: bool = False) -> Any:
    """The class of one of Caffe's messages.

    Args:
      name: one of `MESSAGES`.
      unpacked: whether weights are declared as numbers, which reads them written one by one, as early files have them.

    Returns:
      A class of the protobuf library.

    Raises:
      ExchangeError: if that library is missing.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise ExchangeError(f"reading Caffe files needs protobuf: python -m pip install protobuf ({error})") from None
    package = "cnn_exchange_caffe" + ("_unpacked" if unpacked else "")
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for enum, values in ENUMS.items():
        declared = file.enum_type.add(name=enum)
        for value, number in values.items():
            declared.value.add(name=value, number=number)
    for title, fields in MESSAGES.items():
        declared = file.message_type.add(name=title)
        for text in fields.split():
            _add_field(declared, title, text, package, unpacked)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))


def _add_field(declared: Any, title: str, text: str, package: str, unpacked: bool) -> None:
    """Declares one field of a message from its text."""
    head, number = text.split("=")
    name, kind = head.lstrip("*").split(":")
    if unpacked and kind == "bytes":
        kind = "double" if name == "double_data" else "float"
    field = declared.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if text.startswith("*") else field.LABEL_OPTIONAL
    if kind in MESSAGES or kind in ENUMS:
        field.type = field.TYPE_MESSAGE if kind in MESSAGES else field.TYPE_ENUM
        field.type_name = f".{package}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    if default := DEFAULTS.get(f"{title}.{name}"):
        field.default_value = default
