"""Every field a run can have, with its default and unit. Other configs import this one and change a few."""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The default of every field."""
    config = ConfigDict()
    config.seed = 0  # drives initialisation, order, augmentation and dropout

    config.net = ConfigDict()
    config.net.name = "full_cnn"  # one of cnn.nets.names()
    config.net.num_classes = config_dict.placeholder(int)  # from the data when absent
    config.net.options = ConfigDict()  # what else the net takes, e.g. {"dropout": 0.5}

    config.data = ConfigDict()
    config.data.name = "digits"  # digits, folder, fake, or a TFDS image-classification set
    config.data.dir = ""  # where it lies; "": $TFDS_DATA_DIR, else TFDS's own default
    config.data.validation_fraction = 0.1  # of the training examples, held out
    config.data.train_examples = config_dict.placeholder(int)  # of what is left, each class in proportion; absent: all
    config.data.image_size = config_dict.placeholder(int)  # pixels; absent: the set's own size

    config.augment = ConfigDict()  # of training images, before normalisation
    config.augment.pad = 0  # pixels of padding before a random crop back to size
    config.augment.pad_mode = "zero"  # zero, reflect or edge
    config.augment.flip = False  # left to right, half of the time
    config.augment.scale = (1.0, 1.0)  # random zoom between these factors
    config.augment.brightness = 0.0  # largest shift, of the range [0, 1]
    config.augment.contrast = 0.0  # largest relative change

    config.train = ConfigDict()
    config.train.epochs = config_dict.placeholder(float)  # or steps, not both
    config.train.steps = config_dict.placeholder(int)
    config.train.batch_size = 128  # over all devices together
    config.train.optimizer = "sgd"  # sgd (momentum), adam or adamw
    config.train.learning_rate = 0.05  # at its peak
    config.train.momentum = 0.9  # of sgd
    config.train.schedule = "cosine"  # constant, step or cosine
    config.train.warmup = 0.0  # fraction of all steps over which the rate rises from 0
    config.train.milestones = (0.5, 0.75)  # of schedule "step": fractions of all steps ...
    config.train.decay_factor = 0.1  # ... at which the rate is multiplied by this
    config.train.weight_decay = 0.0  # of kernels only; L2 in the gradient (sgd, adam), decoupled (adamw)
    config.train.frozen = ()  # names of layers whose parameters stay as they start, e.g. ("conv1",) ...
    config.train.frozen_until = 1.0  # ... until this fraction of the run; 1: for all of it
    config.train.label_smoothing = 0.0
    # Fraction of examples moved most of the way out of the window, with an even target: for a net to be run densely,
    # whose windows mostly miss the object. Counted in the train accuracy, which it lowers.
    config.train.background = 0.0
    config.train.clip_norm = 0.0  # largest norm of the whole gradient; 0: not clipped
    config.train.dtype = "float32"  # or bfloat16: of activations and products; parameters and sums stay float32
    config.train.steps_per_dispatch = 100  # steps in one call to the device, and between two lines of the log

    config.eval = ConfigDict()
    config.eval.batch_size = 1000
    config.eval.every_epochs = 1.0  # validation
    config.eval.scenes = 0  # larger scenes for the dense run at the end; 0: none
    config.eval.scene_size = 80  # height and width of a scene, pixels

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 500
    config.checkpoint.keep = 2

    config.lock()
    config.net.options.unlock()  # cnn.nets.create names the options that a net takes
    return config
