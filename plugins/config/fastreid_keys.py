"""The keys of fastreid 1.4.0 that its engine and this package read, described as ours are.

fastreid sets the defaults; a test compares them with those written here.
"""

from plugins.config.key import Key

POOLINGS = (
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GeneralizedMeanPooling",
    "GeneralizedMeanPoolingP",
    "AdaptiveAvgMaxPool",
    "FastGlobalAvgPool",
    "ClipGlobalAvgPool",
    "Identity",
    "Flatten",
)
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")

FASTREID_KEYS: dict[str, Key] = {
    "OUTPUT_DIR": Key("logs/", "Folder of a run: checkpoints, log, metrics, results, config.yaml."),
    "CUDNN_BENCHMARK": Key(False, "Whether cuDNN tries its algorithms and keeps the fastest."),
    # ---- model -----------------------------------------------------------------------------------
    "MODEL.DEVICE": Key(
        "cuda",
        "Device of the model; without a CUDA device the CPU is taken.",
        pattern=(r"cpu|cuda(:\d+)?", "cpu, cuda or cuda:N"),
    ),
    "MODEL.META_ARCHITECTURE": Key(
        "Baseline", "A name of fastreid's META_ARCH registry, such as VVIBaseline or SADSTRM."
    ),
    "MODEL.FREEZE_LAYERS": Key(
        [], "Parts of the model that SOLVER.FREEZE_ITERS freezes.", names=True
    ),
    "MODEL.WEIGHTS": Key("", "Checkpoint that evaluation and training start from."),
    "MODEL.PIXEL_MEAN": Key(
        [0.485 * 255, 0.456 * 255, 0.406 * 255],
        "Mean of red, green and blue, in gray levels, that normalization subtracts.",
        least=0,
        most=255,
        lengths=(3,),
    ),
    "MODEL.PIXEL_STD": Key(
        [0.229 * 255, 0.224 * 255, 0.225 * 255],
        "Standard deviation of red, green and blue, in gray levels, by which it divides.",
        above=0,
        lengths=(3,),
    ),
    "MODEL.BACKBONE.NAME": Key(
        "build_resnet_backbone",
        "A name of fastreid's BACKBONE registry; models of clips need build_two_stream_backbone.",
    ),
    "MODEL.BACKBONE.DEPTH": Key("50x", "Variant of the backbone, such as 18x, 50x or x0_25."),
    "MODEL.BACKBONE.LAST_STRIDE": Key(1, "Stride of the last stage.", least=1),
    "MODEL.BACKBONE.FEAT_DIM": Key(2048, "Length of the backbone's feature.", least=1),
    "MODEL.BACKBONE.NORM": Key("BN", "Normalization layer of the backbone.", choices=NORMS),
    "MODEL.BACKBONE.WITH_IBN": Key(False, "Whether blocks mix instance and batch normalization."),
    "MODEL.BACKBONE.WITH_SE": Key(False, "Whether blocks have squeeze and excitation."),
    "MODEL.BACKBONE.WITH_NL": Key(False, "Whether stages have non-local blocks."),
    "MODEL.BACKBONE.PRETRAIN": Key(False, "Whether the backbone starts from ImageNet weights."),
    "MODEL.BACKBONE.PRETRAIN_PATH": Key(
        "", "File of these weights; empty takes them from fastreid's cache or the network."
    ),
    "MODEL.HEADS.NAME": Key(
        "EmbeddingHead", "A name of fastreid's HEADS registry; models of clips need VideoHead."
    ),
    "MODEL.HEADS.NORM": Key("BN", "Normalization layer of the head.", choices=NORMS),
    "MODEL.HEADS.NUM_CLASSES": Key(0, "People of the training set; 0 counts them.", least=0),
    "MODEL.HEADS.EMBEDDING_DIM": Key(
        0, "Length of the embedding; 0 keeps the backbone's feature.", least=0
    ),
    "MODEL.HEADS.WITH_BNNECK": Key(False, "Whether a BatchNorm stands before the classifier."),
    "MODEL.HEADS.NECK_FEAT": Key(
        "before",
        "Whether losses compare the feature before or after this BatchNorm.",
        choices=("before", "after"),
    ),
    "MODEL.HEADS.POOL_LAYER": Key(
        "GlobalAvgPool",
        "Pooling of fastreid's own heads; VideoHead does not read it.",
        choices=POOLINGS,
    ),
    "MODEL.HEADS.CLS_LAYER": Key(
        "Linear",
        "Classifier of the training people.",
        choices=("Linear", "ArcSoftmax", "CosSoftmax", "CircleSoftmax"),
    ),
    "MODEL.HEADS.MARGIN": Key(0.0, "Margin of classifiers that have one.", least=0),
    "MODEL.HEADS.SCALE": Key(1, "Scale of the logits.", least=1),
    "MODEL.LOSSES.NAME": Key(
        ("CrossEntropyLoss",),
        "Losses: fastreid's own and names of the LOSS registry.",
        names=True,
        nonempty=True,
    ),
    "MODEL.LOSSES.CE.EPSILON": Key(
        0.0, "Label smoothing of CrossEntropyLoss; a negative one adapts it.", least=-1, below=1
    ),
    "MODEL.LOSSES.CE.ALPHA": Key(
        0.2, "Factor of the adapted label smoothing of CrossEntropyLoss.", least=0, most=1
    ),
    "MODEL.LOSSES.CE.SCALE": Key(1.0, "Weight of CrossEntropyLoss.", least=0),
    "MODEL.LOSSES.FL.ALPHA": Key(
        0.25, "Factor of the focal loss, which no network of fastreid computes.", least=0
    ),
    "MODEL.LOSSES.FL.GAMMA": Key(2, "Exponent of the focal loss, likewise.", least=0),
    "MODEL.LOSSES.FL.SCALE": Key(1.0, "Weight of the focal loss, likewise.", least=0),
    "MODEL.LOSSES.TRI.MARGIN": Key(
        0.3, "Margin of TripletLoss, in feature units; 0 takes a soft margin.", least=0
    ),
    "MODEL.LOSSES.TRI.NORM_FEAT": Key(False, "Whether TripletLoss normalizes features first."),
    "MODEL.LOSSES.TRI.HARD_MINING": Key(
        False, "Whether TripletLoss takes the hardest positive and negative of each anchor."
    ),
    "MODEL.LOSSES.TRI.SCALE": Key(1.0, "Weight of TripletLoss.", least=0),
    "MODEL.LOSSES.CIRCLE.MARGIN": Key(0.25, "Margin of CircleLoss.", least=0),
    "MODEL.LOSSES.CIRCLE.GAMMA": Key(128, "Scale of similarities in CircleLoss.", least=1),
    "MODEL.LOSSES.CIRCLE.SCALE": Key(1.0, "Weight of CircleLoss.", least=0),
    "MODEL.LOSSES.COSFACE.MARGIN": Key(0.25, "Margin of Cosface.", least=0),
    "MODEL.LOSSES.COSFACE.GAMMA": Key(128, "Scale of similarities in Cosface.", least=1),
    "MODEL.LOSSES.COSFACE.SCALE": Key(1.0, "Weight of Cosface.", least=0),
    # ---- input -----------------------------------------------------------------------------------
    "INPUT.SIZE_TRAIN": Key(
        [256, 128],
        "Height and width of training images, in pixels.",
        least=1,
        most=4096,
        lengths=(2,),
    ),
    "INPUT.SIZE_TEST": Key(
        [256, 128],
        "Height and width of test images, in pixels.",
        least=1,
        most=4096,
        lengths=(2,),
    ),
    "INPUT.CROP.ENABLED": Key(False, "Whether training crops a random part and resizes it."),
    "INPUT.CROP.SIZE": Key(
        [224, 224], "Height and width of the crop, in pixels.", least=1, lengths=(2,)
    ),
    "INPUT.CROP.SCALE": Key(
        [0.16, 1],
        "Smallest and largest share of the area of a crop.",
        above=0,
        most=1,
        lengths=(2,),
        ascending=True,
    ),
    "INPUT.CROP.RATIO": Key(
        [3 / 4, 4 / 3],
        "Smallest and largest ratio of a crop's sides.",
        above=0,
        lengths=(2,),
        ascending=True,
    ),
    "INPUT.FLIP.ENABLED": Key(False, "Whether training mirrors images left to right."),
    "INPUT.FLIP.PROB": Key(0.5, "Probability for each clip.", least=0, most=1),
    "INPUT.PADDING.ENABLED": Key(False, "Whether training pads images and crops them again."),
    "INPUT.PADDING.MODE": Key(
        "constant",
        "How the border is filled, in torchvision's words.",
        choices=("constant", "edge", "reflect", "symmetric"),
    ),
    "INPUT.PADDING.SIZE": Key(10, "Width of the border, in pixels.", least=0),
    "INPUT.CJ.ENABLED": Key(False, "Whether training jitters the colors."),
    "INPUT.CJ.PROB": Key(0.5, "Probability for each clip.", least=0, most=1),
    "INPUT.CJ.BRIGHTNESS": Key(0.15, "Largest relative change of the brightness.", least=0),
    "INPUT.CJ.CONTRAST": Key(0.15, "Largest relative change of the contrast.", least=0),
    "INPUT.CJ.SATURATION": Key(0.1, "Largest relative change of the saturation.", least=0),
    "INPUT.CJ.HUE": Key(
        0.1, "Largest change of the hue, in turns of the color circle.", least=0, most=0.5
    ),
    "INPUT.REA.ENABLED": Key(
        False, "Whether training erases a random box, the same in all frames of a clip."
    ),
    "INPUT.REA.PROB": Key(0.5, "Probability for each clip.", least=0, most=1),
    "INPUT.REA.VALUE": Key(
        [0.485 * 255, 0.456 * 255, 0.406 * 255],
        "Color of the box, one gray level or red, green and blue; its mean in infrared clips.",
        least=0,
        most=255,
        lengths=(1, 3),
    ),
    # ---- data sets and loaders -------------------------------------------------------------------
    "DATASETS.NAMES": Key(
        ("Market1501",),
        "Data sets that train, names of the DATASET registry.",
        names=True,
        unique=True,
    ),
    "DATASETS.TESTS": Key(
        ("Market1501",), "Data sets that test, names of the DATASET registry.", names=True
    ),
    "DATASETS.COMBINEALL": Key(False, "Whether to train on the test items, too."),
    "DATALOADER.SAMPLER_TRAIN": Key(
        "TrainingSampler",
        "Sampler of training batches: a name of the SAMPLER registry, or one of fastreid's.",
    ),
    "DATALOADER.NUM_INSTANCE": Key(
        4, "Items of a person in a batch; with two modalities, in each of them.", least=1
    ),
    "DATALOADER.SET_WEIGHT": Key([], "Not read: there is no SetReWeightSampler.", lengths=(0,)),
    "DATALOADER.NUM_WORKERS": Key(8, "Loader processes of each rank.", least=0),
    # ---- solver ----------------------------------------------------------------------------------
    "SOLVER.AMP.ENABLED": Key(
        False, "Whether a training computes in mixed precision; see SOLVER.AMP.DTYPE."
    ),
    "SOLVER.OPT": Key("Adam", "Optimizer, a name of torch.optim."),
    "SOLVER.MAX_EPOCH": Key(120, "Epochs of the training.", least=1),
    "SOLVER.BASE_LR": Key(3e-4, "Learning rate after the warm-up.", least=0),
    "SOLVER.HEADS_LR_FACTOR": Key(1.0, "Factor of the learning rate of the heads.", least=0),
    "SOLVER.MOMENTUM": Key(0.9, "Momentum of SGD.", least=0, below=1),
    "SOLVER.NESTEROV": Key(False, "Whether SGD takes Nesterov's momentum."),
    "SOLVER.WEIGHT_DECAY": Key(0.0005, "Weight decay.", least=0),
    "SOLVER.WEIGHT_DECAY_NORM": Key(0.0005, "Weight decay of normalization layers.", least=0),
    "SOLVER.WEIGHT_DECAY_BIAS": Key(0.0005, "Weight decay of biases.", least=0),
    "SOLVER.BIAS_LR_FACTOR": Key(1.0, "Factor of the learning rate of biases.", least=0),
    "SOLVER.SCHED": Key(
        "MultiStepLR",
        "Schedule of the learning rate.",
        choices=("MultiStepLR", "CosineAnnealingLR"),
    ),
    "SOLVER.DELAY_EPOCHS": Key(0, "Epochs before a cosine begins to fall.", least=0),
    "SOLVER.GAMMA": Key(0.1, "Factor of the learning rate at each of STEPS.", above=0),
    "SOLVER.STEPS": Key([30, 55], "Epochs at which MultiStepLR lowers the learning rate.", least=1),
    "SOLVER.ETA_MIN_LR": Key(1e-7, "Learning rate at the end of a cosine.", least=0),
    "SOLVER.WARMUP_FACTOR": Key(
        0.1, "Factor of the learning rate at the start of the warm-up.", least=0, most=1
    ),
    "SOLVER.WARMUP_ITERS": Key(1000, "Iterations of warm-up where WARMUP_EPOCHS is 0.", least=0),
    "SOLVER.WARMUP_METHOD": Key(
        "linear", "Growth of the learning rate.", choices=("constant", "linear", "exp")
    ),
    "SOLVER.FREEZE_ITERS": Key(0, "Iterations in which MODEL.FREEZE_LAYERS stay frozen.", least=0),
    "SOLVER.CHECKPOINT_PERIOD": Key(20, "Epochs between two checkpoints.", least=1),
    "SOLVER.IMS_PER_BATCH": Key(64, "Items of a training batch, on all ranks together.", least=1),
    "SOLVER.CLIP_GRADIENTS.ENABLED": Key(False, "Whether gradients are clipped."),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": Key(
        "norm",
        "Whether the norm of each parameter's gradient is clipped or each value.",
        choices=("norm", "value"),
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": Key(5.0, "Largest norm or value.", above=0),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": Key(
        2.0, "Order of this norm; .inf is the largest value.", above=0, infinite=True
    ),
    # ---- test ------------------------------------------------------------------------------------
    "TEST.EVAL_PERIOD": Key(20, "Epochs between two evaluations.", least=1),
    "TEST.IMS_PER_BATCH": Key(64, "Items of a test batch, on all ranks together.", least=1),
    "TEST.METRIC": Key("cosine", "Distance between features.", choices=("cosine", "euclidean")),
    "TEST.FLIP.ENABLED": Key(False, "Whether a feature is the mean with that of mirrored images."),
    "TEST.ROC.ENABLED": Key(
        False,
        "Whether rows that are not re-ranked also hold the share of pairs of one person that is "
        "accepted where 1e-4, 1e-3 and 1e-2 of the pairs of two people are (TAR@FAR).",
    ),
    "TEST.PRECISE_BN.ENABLED": Key(
        False, "Whether training recomputes BatchNorm's statistics before each evaluation."
    ),
    "TEST.PRECISE_BN.DATASET": Key(
        "Market1501", "Data set whose training items give them, a name of the DATASET registry."
    ),
    "TEST.PRECISE_BN.NUM_ITER": Key(300, "Batches that give them.", least=1),
    "TEST.RERANK.ENABLED": Key(False, "Whether to add rows after k-reciprocal re-ranking."),
    "TEST.RERANK.K1": Key(20, "Neighbors of an item, itself included.", least=1),
    "TEST.RERANK.K2": Key(6, "Nearest of them over which an item's vector is averaged.", least=1),
    "TEST.RERANK.LAMBDA": Key(0.3, "Weight of the plain distance.", least=0, most=1),
}
