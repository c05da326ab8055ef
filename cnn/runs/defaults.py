"""Every field that a run can have, with its default and what it means; the files in `configs/` change a few of them."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

# A ConfigDict's fields have no static types; the name says what a function wants all the same.
Config = Any


class Field(NamedTuple):
    """One field of a config.

    Attributes:
      name: its full name with its group, "train.epochs".
      default: its value; a type (int or float) for a field that is absent unless a config sets it.
      meaning: a sentence on what it is for, with its unit; shown by `main.py --help`.
    """

    name: str
    default: Any
    meaning: str


FIELDS = (
    Field("seed", 0, "Seed of initialisation, of the order of examples, of augmentation and of dropout."),
    Field("net.name", "full_cnn", "A net of cnn.nets.names(), or a function of your own: my_nets.py:my_net."),
    Field(
        "net.num_classes",
        int,
        "Number of outputs; by default the number of classes in the data. One output tells two classes apart.",
    ),
    Field(
        "net.output_activation",
        str,
        "softmax, or sigmoid for classes that do not exclude each other; default: the net's own.",
    ),
    Field("net.options", {}, "Further arguments of the net: --config.net.options.dropout=0.5."),
    Field(
        "data.name",
        "digits",
        "digits, folder, shards (tar files of WebDataset, or Parquet), fake, a TFDS image-classification set, a file "
        "my_data.npz, or a function of your own: my_data.py:load.",
    ),
    Field("data.dir", "", "Folder that holds the data; by default $TFDS_DATA_DIR, else TFDS's own default."),
    Field("data.validation_fraction", 0.1, "Fraction of the training examples that is held out for validation."),
    Field("data.train_examples", int, "Training examples to keep, each class in proportion; by default all."),
    Field("data.on_error", "stop", "What a folder's unreadable picture does: stop, or skip (counted and listed)."),
    Field(
        "data.in_memory",
        "auto",
        "Whether the images of a folder, of shards or a TFDS set are decoded once and kept in memory: yes, no (each is "
        "decoded whenever it is used) or auto, by how much memory they take.",
    ),
    Field("data.image_size", int, "Height and width that images are resized to, pixels; by default the set's own."),
    Field(
        "data.value_range",
        (),
        "Pixel values that count as black and white, (low, high), such as (0, 4095); by default those of the dtype. "
        "Kept with the run, for every image that its net is used on.",
    ),
    Field(
        "data.channels",
        (),
        "Numbers or names of the channels that are read, in order, such as (2, 1, 0); by default all. Kept likewise.",
    ),
    Field("augment.pad", 0, "Training images are padded by this many pixels, then cropped at random to their size."),
    Field("augment.pad_mode", "zero", "zero, reflect or edge."),
    Field("augment.flip", False, "Mirror half of the training images left to right."),
    Field(
        "augment.flip_in_turn",
        False,
        "Mirror each training image in every other epoch, half of them in the first, in place of augment.flip.",
    ),
    Field("augment.scale", (1.0, 1.0), "Zoom training images by a random factor between these two: (low, high)."),
    Field(
        "augment.area",
        (),
        "Cut each training image out of its whole picture: a random part of its area, (low, high) such as (0.08, 1), "
        "resized. For pictures that stay in their files (data.in_memory=no).",
    ),
    Field("augment.aspect", (0.75, 4 / 3), "Width by height of the part that augment.area cuts out: (low, high)."),
    Field(
        "augment.shortest_side",
        (),
        "Resize each picture's shortest side to a random number of pixels, (low, high) such as (256, 512), and cut "
        "each training image out at a random place. For pictures that stay in their files.",
    ),
    Field("augment.brightness", 0.0, "Largest change of brightness, as a fraction of the range of pixel values."),
    Field("augment.contrast", 0.0, "Largest relative change of contrast."),
    Field(
        "augment.colour_noise",
        0.0,
        "Deviation of the colour added to each training image along ImageNet's principal colours; AlexNet's: 0.1.",
    ),
    Field(
        "augment.randaugment",
        (),
        "RandAugment: (number of operations on each training image, their magnitude from 0 to 30), such as (2, 9). For "
        "pictures that stay in their files.",
    ),
    Field(
        "augment.mixup",
        0.0,
        "Mix each training image and its label with another of the batch, in parts from Beta(this, this); the paper's "
        "for ImageNet: 0.2.",
    ),
    Field("train.epochs", float, "Length of training in epochs; give this or train.steps."),
    Field("train.steps", int, "Length of training in steps; give this or train.epochs."),
    Field("train.batch_size", 128, "Examples in a step, over all devices together."),
    Field("train.optimizer", "sgd", "sgd (with momentum), adam, adamw or muon."),
    Field("train.learning_rate", 0.05, "Learning rate at its peak."),
    Field("train.momentum", 0.9, "Momentum of sgd and muon."),
    Field("train.nesterov", False, "Whether sgd's momentum is Nesterov's."),
    Field("train.bias_rate", 1.0, "What the learning rate of biases is multiplied by."),
    Field("train.head_rate", 1.0, "What the learning rate of the last layer with parameters is multiplied by."),
    Field("train.schedule", "cosine", "How the learning rate changes: constant, step, linear (to 0) or cosine."),
    Field("train.warmup", 0.0, "Fraction of all steps over which the learning rate rises from 0."),
    Field("train.milestones", (0.5, 0.75), "Schedule step: fractions of all steps at which the rate falls."),
    Field("train.decay_factor", 0.1, "Schedule step: what the rate is multiplied by at each milestone."),
    Field("train.weight_decay", 0.0, "Of kernels only: L2 in the gradient (sgd, adam) or decoupled (adamw, muon)."),
    Field(
        "train.initial_run",
        "",
        "Directory of a run to start from: layers of equal name and shape begin with its weights; by default none do.",
    ),
    Field(
        "train.whitened",
        "",
        "Name of a convolution of the images whose kernels begin as a whitening of the training images' patches, such "
        "as conv1; by default none does.",
    ),
    Field("train.frozen", (), "Names of layers whose parameters stay as initialised, such as \"('conv1',)\"."),
    Field("train.frozen_until", 1.0, "Fraction of the run after which frozen layers train too; 1: never."),
    Field("train.label_smoothing", 0.0, "Probability that is spread evenly over all classes."),
    Field(
        "train.class_weights",
        (),
        "Weights of the classes in the loss of training: balanced (each class counts alike) or a number for each, such "
        'as "(1, 5)"; by default all examples count alike.',
    ),
    Field(
        "train.background",
        0.0,
        "Fraction of training examples that are moved most of the way out of the window, with an even target: for a "
        "net to be run densely, most of whose windows miss the object.",
    ),
    Field("train.clip_norm", 0.0, "Largest norm of the whole gradient; 0: it is not clipped."),
    Field("train.dtype", "float32", "float32 or bfloat16, of activations and products; parameters stay float32."),
    Field(
        "train.sharding",
        "data",
        "How training is split over several devices: data (the batch), fsdp (parameters and optimiser too) or model "
        "(the outputs of fully connected layers too).",
    ),
    Field(
        "train.ops",
        "fast",
        "fast (on CPU, the algorithms of cnn.ops where they are faster) or plain (XLA's own).",
    ),
    Field("train.steps_per_dispatch", 100, "Steps in one call to the device, and between two lines of the log."),
    Field("eval.batch_size", 1000, "Images in one call to the device."),
    Field(
        "eval.mirror",
        False,
        "Whether an image's class scores are the mean of its own and its mirror image's when a split is scored.",
    ),
    Field(
        "eval.shift",
        0,
        "Pixels by which an image is shifted to be scored twice more when a split is scored: up left and down right.",
    ),
    Field("eval.every_epochs", 1.0, "Epochs between two evaluations on the validation split; at least one step."),
    Field("eval.scenes", 0, "Number of larger scenes to run the trained net densely over at the end; 0: none."),
    Field("eval.scene_size", 80, "Height and width of a scene, pixels."),
    Field("checkpoint.every_steps", 500, "Steps between two checkpoints."),
    Field("checkpoint.keep", 2, "How many of the latest checkpoints to keep."),
    Field("checkpoint.best", True, "Whether the net of the best validation is kept too, beside the latest ones."),
)

MAY_BE_ABSENT = frozenset(field.name for field in FIELDS if isinstance(field.default, type))


def get_config() -> Any:
    """A config with the default of every field.

    Returns:
      The config; locked, so that a field that does not exist cannot be set, but for net.options, whose names
      `cnn.nets.create` checks.
    """
    config: Any = ConfigDict()
    for name, default, _ in FIELDS:
        *groups, last = name.split(".")
        group = config
        for part in groups:
            if part not in group:
                group[part] = ConfigDict()
            group = group[part]
        if isinstance(default, type):
            group[last] = config_dict.placeholder(default)
        else:
            group[last] = ConfigDict() if default == {} else default
    config.lock()
    config.net.options.unlock()
    return config
