"""Every key that this package adds to fastreid's config: default, values, unit and meaning.

A budget, a step or a pixel is in gray levels, 0 to 255, as images are before their normalization.
Checks that concern several keys stand beside the code that they protect.
"""

from plugins.config.key import Key

# numpy's seeds are below 2^32, and each process adds its rank.
LARGEST_SEED = 2**31 - 1
STAGES = ("layer2", "layer3", "layer4")

KEYS: dict[str, Key] = {
    "SEED": Key(
        -1,
        "Seed of Python, numpy, torch, the samplers and the workers; a negative one is drawn and "
        "logged.",
        most=LARGEST_SEED,
    ),
    "PLUGINS": Key(
        [],
        "Modules or files with parts and keys of your own, as --plugins takes them. In a "
        "config.yaml, or beside checkpoints, it is a record: only the command line imports them.",
        names=True,
    ),
    # ---- model -----------------------------------------------------------------------------------
    "MODEL.BACKBONE.TRUNK": Key(
        "build_resnet_backbone",
        "Backbone of fastreid that build_two_stream_backbone cuts into stems and a shared trunk: "
        "build_resnet_backbone, build_mobilenetv2_backbone (DEPTH 1.0x, FEAT_DIM 1280) or "
        "build_osnet_backbone (DEPTH x1_0 to x0_25, FEAT_DIM 512 to 128).",
    ),
    "MODEL.BACKBONE.SHARED_STEM": Key(
        False, "Whether both modalities share one stem (M3-ReID) instead of having one each."
    ),
    "MODEL.SPATIAL_POOLING.KIND": Key(
        "mean",
        "How the map of a frame becomes its feature; gem is the generalized mean with a learned "
        "exponent. MODEL.HEADS.POOL_LAYER is not read.",
        choices=("mean", "gem", "max"),
    ),
    "MODEL.SPATIAL_POOLING.P": Key(
        3.0, "Exponent of gem at the start of training: 1 is the mean.", least=1, most=100
    ),
    "MODEL.TEMPORAL.NAME": Key(
        "TemporalMean",
        "Temporal aggregation, a name of the TEMPORAL registry: how T frame maps become one "
        "feature.",
    ),
    "MODEL.TEMPORAL.NORM.STATISTICS": Key(
        "modality",
        "Statistics that normalize the input of STIG, TemporalAttention, TemporalLSTM and "
        "TemporalTransformer: a set for each modality, or a joint one. MODEL.BACKBONE.NORM syncBN "
        "gathers them from all processes.",
        choices=("modality", "joint"),
    ),
    "MODEL.TEMPORAL.NORM.MOMENTUM": Key(
        0.05,
        "Least weight of the newest batch in these statistics. A larger one would follow single "
        "batches, which show few people.",
        above=0,
        most=0.05,
    ),
    "MODEL.TEMPORAL.STIG.SOURCE": Key(
        "layer4", "Stage of the trunk whose maps are cut into cells.", choices=STAGES
    ),
    "MODEL.TEMPORAL.STIG.STRIPES": Key(6, "Rows of cells, from head to feet.", least=1),
    "MODEL.TEMPORAL.STIG.COLUMNS": Key(1, "Columns of cells.", least=1),
    "MODEL.TEMPORAL.STIG.DIM": Key(
        256, "Length of a cell's descriptor; even with SPATIAL.", least=1
    ),
    "MODEL.TEMPORAL.STIG.GUIDE_DIM": Key(128, "Hidden length of the guidance layer.", least=1),
    "MODEL.TEMPORAL.STIG.SPATIAL": Key(True, "Whether the cells of a frame are related."),
    "MODEL.TEMPORAL.STIG.TEMPORAL": Key(True, "Whether the frames of a cell are related."),
    "MODEL.TEMPORAL.STIG.DROPOUT": Key(
        0.0, "Share of the normalized cells' values that training sets to 0.", least=0, below=1
    ),
    "MODEL.TEMPORAL.STIG.RELATION.DIM": Key(
        256,
        "Length of the relation as a feature of its own; at 0 the relation only guides.",
        least=0,
    ),
    "MODEL.TEMPORAL.STIG.RELATION.READS": Key(
        "cells",
        "Input of the relation: cells and their changes, or the changes alone, which a still "
        "appearance does not reach.",
        choices=("cells", "changes"),
    ),
    "MODEL.TEMPORAL.STIG.RELATION.JOIN": Key(
        "concatenate",
        "How the relation joins the test feature: behind it, or added to it through a projection "
        "that starts at 0.",
        choices=("concatenate", "add"),
    ),
    "MODEL.TEMPORAL.STIG.RELATION.WEIGHT": Key(
        1.0, "Weight of the relation's identity loss and cross-modal triplet loss.", least=0
    ),
    "MODEL.TEMPORAL.GEM.P": Key(
        3.0,
        "Exponent of TemporalGeM at the start of training: 1 is the mean, 100 nearly the maximum.",
        least=1,
        most=100,
    ),
    "MODEL.TEMPORAL.ATTENTION.DIM": Key(
        256, "Hidden length of the layer by which TemporalAttention scores a frame.", least=1
    ),
    "MODEL.TEMPORAL.LSTM.DIM": Key(256, "Length of the hidden state of TemporalLSTM.", least=1),
    "MODEL.TEMPORAL.TRANSFORMER.DIM": Key(
        256, "Length of a frame's token in TemporalTransformer, an even multiple of HEADS.", least=1
    ),
    "MODEL.TEMPORAL.TRANSFORMER.HEADS": Key(4, "Attention heads of TemporalTransformer.", least=1),
    "MODEL.TEMPORAL.TRANSFORMER.LAYERS": Key(2, "Encoder layers of TemporalTransformer.", least=1),
    "MODEL.TEMPORAL.SHIFT.SHARE": Key(
        0.125,
        "Share of the channels that TemporalShift moves by one frame, in each direction.",
        least=0,
        most=0.5,
    ),
    "MODEL.CROSS_MODAL_ATTENTION.ENABLED": Key(
        False,
        "Whether a clip's feature attends to clips of the same person in the other modality during "
        "training (SADSTRM).",
    ),
    "MODEL.CROSS_MODAL_ATTENTION.DIM": Key(256, "Length of queries, keys and values.", least=1),
    "MODEL.DUAL_NORM.ENABLED": Key(
        False,
        "Whether every BatchNorm has a second branch for attacked batches (AdvProp, Xie et al., "
        "CVPR 2020).",
    ),
    "MODEL.DUAL_NORM.DEPLOYED": Key(
        "clean",
        "Branch that evaluation uses and a checkpoint holds under the stock names.",
        choices=("clean", "attacked"),
    ),
    "MODEL.HEADS.NECK_LEVEL": Key(
        "clip",
        "Whether the BNNeck normalizes the features of clips or of frames; then a clip's feature "
        "is the mean over its normalized frames (M3-ReID).",
        choices=("clip", "frame"),
    ),
    # ---- losses ----------------------------------------------------------------------------------
    "MODEL.LOSSES.FRAMES.NAME": Key(
        [],
        "Losses on frames, named and set as in MODEL.LOSSES.NAME, with a classifier of their own; "
        "they need MODEL.HEADS.NECK_LEVEL frame.",
        names=True,
    ),
    "MODEL.LOSSES.FRAMES.WEIGHT": Key(1.0, "Weight of the losses on frames.", least=0),
    "MODEL.LOSSES.CROSS_MODAL_TRI.MARGIN": Key(
        0.3, "Margin of the cross-modal batch-hard triplet loss, in feature units.", least=0
    ),
    "MODEL.LOSSES.CROSS_MODAL_TRI.SCALE": Key(1.0, "Weight of CrossModalTriplet.", least=0),
    "MODEL.LOSSES.HETERO_CENTER_TRI.MARGIN": Key(
        0.3, "Margin (rho) of the hetero-center triplet loss, in feature units.", least=0
    ),
    "MODEL.LOSSES.HETERO_CENTER_TRI.SCALE": Key(1.0, "Weight of HeteroCenterTriplet.", least=0),
    "MODEL.LOSSES.WEIGHTED_REG_TRI.SCALE": Key(
        1.0, "Weight of the weighted regularized triplet loss (AGW), which has no margin.", least=0
    ),
    "MODEL.LOSSES.CROSS_MODAL_ALIGNMENT.SCALE": Key(
        1.0,
        "Weight of the alignment loss of M3-ReID, a soft margin on mean cosine distances across "
        "the modalities.",
        least=0,
    ),
    "MODEL.LOSSES.FRAME_SEPARATION.SCALE": Key(
        1.0,
        "Weight of the separation loss of M3-ReID, squared cosines between the frames of a clip; "
        "it needs MODEL.HEADS.NECK_LEVEL frame.",
        least=0,
    ),
    "MODEL.LOSSES.CENTER_ALIGNMENT.SCALE": Key(
        1.0,
        "Weight of the hetero-center loss, the squared distance between a person's centers in the "
        "two modalities.",
        least=0,
    ),
    "MODEL.LOSSES.MODALITY_CONFUSION.SCALE": Key(
        0.1, "Weight of the modality classifier that the features learn to fool.", least=0
    ),
    "MODEL.LOSSES.MODALITY_CONFUSION.HIDDEN": Key(128, "Its hidden units.", least=1),
    "MODEL.LOSSES.KL_CONSISTENCY.SCALE": Key(
        1.0,
        "Weight of the divergence between a person's mean predictions in the two modalities.",
        least=0,
    ),
    # ---- self-attack -----------------------------------------------------------------------------
    "MODEL.SELF_ATTACK.KIND": Key(
        "learned",
        "Attack on feature maps during training (SADSTRM). learned (by a module), gradient (of "
        "L_A) and random (noise, a control) attack the stem maps F0. style (channel statistics of "
        "a drawn partner), style_worst (of the worst partner), statistics (a step within a "
        "person's deviation) and background (cells without a person) attack the maps behind the "
        "stage AFTER. Other names are of the SELF_ATTACK registry.",
    ),
    "MODEL.SELF_ATTACK.EPS": Key(
        0.3,
        "Strength. gradient and random: |Delta| / |F0| of each frame; learned: its largest value. "
        "style: the partner's share is drawn from 0 to EPS; style_worst: the share is EPS. "
        "statistics: deviations within a person. background: share of the cells.",
        least=0,
    ),
    "MODEL.SELF_ATTACK.AFTER": Key(
        "layer2",
        "Stage, shared by the modalities, whose maps are attacked.",
        choices=("layer1", "layer2", "layer3"),
    ),
    "MODEL.SELF_ATTACK.PARTNER": Key(
        "same_person",
        "Clips that lend their style: of the same person under another camera or modality, or of "
        "any other person.",
        choices=("same_person", "other_person"),
    ),
    "MODEL.SELF_ATTACK.PARTNER_MODALITY": Key(
        "any", "Modality of these clips.", choices=("any", "same", "other")
    ),
    "MODEL.SELF_ATTACK.NORMALIZATION": Key(
        "auto",
        "Batch whose statistics normalize attacked maps: attacked, which cancels what all of them "
        "share, or clean. auto is attacked for learned, gradient and random, and clean for the "
        "others.",
        choices=("auto", "attacked", "clean"),
    ),
    "MODEL.SELF_ATTACK.HEADS": Key(4, "Heads of the channel attention.", least=1),
    "MODEL.SELF_ATTACK.CONF_WEIGHT": Key(
        1.0, "Weight of L_conf: the attacked prediction moves towards uniform.", least=0
    ),
    "MODEL.SELF_ATTACK.REV_WEIGHT": Key(
        1.0, "Weight of L_rev, the reversed triplet loss.", least=0
    ),
    "MODEL.SELF_ATTACK.MOD_WEIGHT": Key(
        0.5, "Weight of L_mod: the attacked map looks like the other modality.", least=0
    ),
    "MODEL.SELF_ATTACK.CAM_WEIGHT": Key(
        0.0, "Weight of L_cam: the attacked map looks like another camera.", least=0
    ),
    "MODEL.SELF_ATTACK.TEMPERATURE": Key(4.0, "Divisor of the logits of L_conf.", above=0),
    "MODEL.SELF_ATTACK.MARGIN": Key(0.3, "Margin (m) of L_rev, in feature units.", least=0),
    "MODEL.SELF_ATTACK.LAMBDA_A": Key(
        1.0, "Weight (lambda_a) of the losses on attacked features.", least=0
    ),
    "MODEL.SELF_ATTACK.LAMBDA_C": Key(0.5, "Weight (lambda_c) of KL(clean || attacked).", least=0),
    "MODEL.SELF_ATTACK.LAMBDA_D": Key(
        0.0, "Weight of |f - f~|, a mean over the clips; 0 leaves the term out.", least=0
    ),
    "MODEL.SELF_ATTACK.STRENGTH_PERIOD": Key(
        50,
        "Iterations between two measurements of |f - f~| in evaluation mode; 0 makes none.",
        least=0,
    ),
    "MODEL.SELF_ATTACK.NUM_CAMERAS": Key(0, "Cameras of the training set; 0 counts them.", least=0),
    # ---- input -----------------------------------------------------------------------------------
    "INPUT.CLIP.LENGTH": Key(6, "Frames of a clip (T), and segments of a tracklet.", least=1),
    "INPUT.CLIP.SAMPLING": Key(
        "segments",
        "Frames of a clip. segments: one of each segment, the first at test, a random one in "
        "training. linspace: as BUPTCampus's own code at test, segments in training. window: "
        "frames at equal distances of STRIDE, from a random start in training, in the middle at "
        "test.",
        choices=("segments", "linspace", "window"),
    ),
    "INPUT.CLIP.STRIDE": Key(1, "Frames from one frame of a window to the next.", least=1),
    "INPUT.CLIP.ORDER": Key(
        "kept",
        "Order of a clip's frames. kept: that of the tracklet. shuffled: a random one, in training "
        "and at test; the control that tells what the order is worth.",
        choices=("kept", "shuffled"),
    ),
    "INPUT.CHANNEL_MIX.ENABLED": Key(
        False,
        "Whether visible clips turn gray with random weights of their colors (channel augmentation "
        "of Ye et al., ICCV 2021, picks one color). One draw serves all frames of a clip.",
    ),
    "INPUT.CHANNEL_MIX.PROB": Key(0.5, "Probability for each clip.", least=0, most=1),
    "INPUT.CHANNEL_SWAP.ENABLED": Key(
        False,
        "Whether visible clips get red, green and blue in another order. One draw serves all "
        "frames of a clip.",
    ),
    "INPUT.CHANNEL_SWAP.PROB": Key(0.5, "Probability for each clip.", least=0, most=1),
    "INPUT.STYLE_VARIATION.ENABLED": Key(
        False,
        "Whether the model multiplies the normalized channels of a training clip by random factors "
        "(SAADG): one factor for each channel of a visible clip, one for all of an infrared clip.",
    ),
    "INPUT.STYLE_VARIATION.RANGE": Key(
        [0.5, 1.5], "Smallest and largest factor.", above=0, lengths=(2,), ascending=True
    ),
    "INPUT.STYLE_VARIATION.PROB": Key(1.0, "Probability for each clip.", least=0, most=1),
    "INPUT.MAX_PIXELS": Key(
        89_478_485,
        "Largest size of an image file, width times height in pixels; a small file may unpack to "
        "gigabytes.",
        least=1,
    ),
    "DATALOADER.FRAME_CACHE": Key(
        "",
        "Folder of frames that tools/cache_data.py packed at the input's size; empty decodes the "
        "files.",
    ),
    # ---- data sets -------------------------------------------------------------------------------
    "DATASETS.BUPT.PROTOCOL": Key(
        "full",
        "full (M3-ReID: everything, with the camera rule) or official (AuxNet: no camera rule, "
        "visible rows cut to a multiple of 64); their numbers do not compare.",
        choices=("full", "official"),
    ),
    "DATASETS.BUPT.AUXILIARY": Key(
        False, "Whether to train on the one-camera people of train_auxiliary.txt, too."
    ),
    "DATASETS.BUPT.FAKE_IR": Key(False, "Whether to train on the translated infrared frames, too."),
    "DATASETS.FOLDER.ROOT": Key(
        "people", "Folder of FolderDataset, in FASTREID_DATASETS or absolute."
    ),
    "DATASETS.FOLDER.TRAIN_SHARE": Key(
        2 / 3,
        "Share of the people that train, by sorted folder names, rounded up to a whole person.",
        above=0,
        below=1,
    ),
    "DATASETS.MANIFEST.FILE": Key(
        "manifest.csv",
        "CSV or Parquet file of ManifestDataset, in FASTREID_DATASETS or absolute.",
    ),
    "DATASETS.SYSU.MODE": Key("all", "Cameras of SYSU-MM01's gallery.", choices=("all", "indoor")),
    "DATASETS.SYSU.SHOT": Key(1, "Gallery images of a person under one camera.", choices=(1, 10)),
    "DATASETS.SYSU.DRAW": Key(
        "official",
        "Drawn galleries: official (the authors' permutations) or seeded (AGW's code, SHOT 1); "
        "their numbers do not compare.",
        choices=("official", "seeded"),
    ),
    "DATASETS.REGDB.TRIAL": Key(
        1,
        "One of RegDB's ten splits; each has its own training, and their scores are averaged.",
        least=1,
        most=10,
    ),
    "DATASETS.LLCM.MODE": Key(
        "sampled-gallery",
        "Gallery of LLCM; deen-script also draws the infrared queries of V2I. Numbers of different "
        "modes do not compare.",
        choices=("sampled-gallery", "deen-script", "full-gallery"),
    ),
    "DATASETS.HELD_OUT.NAME": Key(
        "Market1501", "Data set whose training people HeldOutPeople splits."
    ),
    "DATASETS.HELD_OUT.PEOPLE": Key(
        100, "People who are held out of training and searched for instead.", least=2
    ),
    "DATASETS.HELD_OUT.SEED": Key(0, "Seed of the draw of these people.", least=0),
    "DATASETS.THINNED.NAME": Key(
        "FolderDataset", "Data set whose training items ThinnedDataset leaves out unevenly."
    ),
    "DATASETS.THINNED.IMBALANCE": Key(0.7, "How unevenly: 0 leaves nothing out.", least=0, most=1),
    "DATASETS.THINNED.SEED": Key(0, "Seed of what is left out.", least=0),
    "DATASETS.BALANCE.NAME": Key(
        "Market1501",
        "Data set that lacks images; BalancedDataset is this set with the generated ones "
        "(DDDefense, phase 1).",
    ),
    "DATASETS.BALANCE.DIR": Key(
        "balance", "Folder of plan, generator and images, in FASTREID_DATASETS or absolute."
    ),
    "DATASETS.BALANCE.DELTA1": Key(
        0,
        "Images that each person shall have (delta_1); 0 takes the rounded mean of the set.",
        least=0,
    ),
    "DATASETS.BALANCE.DELTA2": Key(
        0.5,
        "Share of one camera above which the other cameras get images (delta_2).",
        above=0,
        most=1,
    ),
    "DATASETS.BALANCE.CANDIDATES": Key(
        5, "Generated images for each missing one, of which the best may stay.", least=1
    ),
    "DATASETS.BALANCE.TOP": Key(
        5, "Rank within which the teacher must find the right person.", least=1
    ),
    "DATASETS.BALANCE.CLEAR": Key(
        0.0,
        "Quantile of the real images' cosine margin to the next person that a generated image must "
        "reach; 0 asks for nothing.",
        least=0,
        most=1,
    ),
    "DATASETS.BALANCE.TEACHER.CONFIG_FILE": Key(
        "", "Config of the clean re-ID model that judges generated images."
    ),
    "DATASETS.BALANCE.TEACHER.WEIGHTS": Key("", "Checkpoint of that model."),
    "DATASETS.BALANCE.GENERATOR.SIZE": Key(
        [128, 64], "Height and width of generated images, in pixels.", least=1, lengths=(2,)
    ),
    "DATASETS.BALANCE.GENERATOR.PATCH": Key(
        1,
        "Side of the squares of pixels that the UNet takes as one; 2 costs a quarter of 1.",
        least=1,
    ),
    "DATASETS.BALANCE.GENERATOR.CHANNELS": Key(
        [64, 128, 256],
        "Channels of the UNet at each resolution, the finest first, each half of the one before.",
        least=8,
        multiple_of=8,
        nonempty=True,
    ),
    "DATASETS.BALANCE.GENERATOR.LAYERS": Key(2, "Residual blocks at each resolution.", least=1),
    "DATASETS.BALANCE.GENERATOR.UNKNOWN": Key(
        0.1,
        "Probability that training drops the label of the person, and that of the camera.",
        least=0,
        below=1,
    ),
    "DATASETS.BALANCE.GENERATOR.EMA": Key(
        0.999, "Decay of the averaged weights, which generate.", least=0, below=1
    ),
    "DATASETS.BALANCE.GENERATOR.BATCH": Key(64, "Images of a training batch.", least=1),
    "DATASETS.BALANCE.GENERATOR.BASE_LR": Key(0.0002, "Constant rate of Adam.", above=0),
    "DATASETS.BALANCE.GENERATOR.STEPS": Key(50000, "Training steps.", least=1),
    "DATASETS.BALANCE.GENERATOR.CHECKPOINT_PERIOD": Key(
        1000, "Steps between two checkpoints.", least=1
    ),
    "DATASETS.BALANCE.GENERATOR.SCHEDULER": Key(
        "euler", "Sampler; dpm is DPM-Solver++ (multistep).", choices=("euler", "dpm")
    ),
    "DATASETS.BALANCE.GENERATOR.SAMPLING_STEPS": Key(
        18, "Evaluations of the network for one image.", least=1
    ),
    "DATASETS.BALANCE.GENERATOR.GUIDANCE": Key(
        1.0,
        "Classifier-free guidance; 1 is none, more is closer to the condition and less diverse.",
        least=0,
    ),
    # ---- solver ----------------------------------------------------------------------------------
    "SOLVER.STEP": Key("SimpleStep", "What one iteration does, a name of the STEP registry."),
    "SOLVER.ACCUMULATION": Key(
        1, "Batches whose gradients are averaged before one update.", least=1
    ),
    "SOLVER.WARMUP_EPOCHS": Key(
        0,
        "Epochs of warm-up. Above 0 it replaces WARMUP_ITERS, and STEPS count epochs from the "
        "start of training.",
        least=0,
    ),
    "SOLVER.EMA_DECAY": Key(
        0.0,
        "Decay, at each update, of the moving average of the weights, which is then evaluated, "
        "saved as the model and deployed; 0 averages nothing.",
        least=0,
        below=1,
    ),
    "SOLVER.LOG_PERIOD": Key(200, "Iterations between two lines of the log.", least=1),
    "SOLVER.AMP.DTYPE": Key(
        "float16",
        "Number format of mixed precision on CUDA; float16 comes with loss scaling. A CPU always "
        "takes bfloat16.",
        choices=("float16", "bfloat16"),
    ),
    "SOLVER.CHANNELS_LAST": Key(
        False,
        "Whether the weights of convolutions lie with their channels last, which mixed precision "
        "is fast with.",
    ),
    "SOLVER.ACTIVATION_CHECKPOINTING": Key(
        False,
        "Whether the blocks of the trunk compute their activations again for the backward pass "
        "instead of keeping them: less memory, more time, the same results.",
    ),
    "SOLVER.ADVERSARY.START_EPOCH": Key(
        0, "Epochs in which AlternatingStep trains the defender alone.", least=0
    ),
    "SOLVER.ADVERSARY.BASE_LR": Key(0.01, "Learning rate of the adversary's SGD.", least=0),
    "SOLVER.ADVERSARY.MOMENTUM": Key(0.9, "Momentum of the adversary's SGD.", least=0),
    "SOLVER.ADVERSARY.WEIGHT_DECAY": Key(0.0005, "Weight decay of the adversary's SGD.", least=0),
    "SOLVER.ADVERSARY.CLIP_NORM": Key(
        5.0, "Largest norm of the adversary's whole gradient.", above=0
    ),
    # ---- test ------------------------------------------------------------------------------------
    "TEST.EVALUATOR": Key("VVIEvaluator", "A name of the EVALUATOR registry."),
    "TEST.CLIPS": Key(
        1,
        "Clips of a tracklet whose features are averaged. 1: the first frame of each of the T "
        "segments; k: at most k such clips at offsets spread over the segments; 0: all frames, T "
        "at a time. With INPUT.CLIP.SAMPLING window: the one in the middle; at most k, evenly "
        "spread; as many as show every frame.",
        least=0,
    ),
    "TEST.CORRUPTION.KIND": Key(
        "none",
        "Frames as a worse camera records them.",
        choices=("none", "noise", "blur", "jpeg", "gamma"),
    ),
    "TEST.CORRUPTION.SEVERITY": Key(3, "Strength of the corruption.", least=1, most=5),
    "TEST.CORRUPTION.ITEMS": Key(
        "all",
        "Corrupted items. query and gallery need a list of their own each; infrared are the "
        "queries of I2V and the gallery of V2I, visible the others.",
        choices=("all", "query", "gallery", "visible", "infrared"),
    ),
    "TEST.CORRUPTION.SEED": Key(0, "Seed of the noise.", least=0),
    "TEST.FEATURE": Key(
        "fused",
        "Feature that a test compares, with a temporal part that has a relation (STIG).",
        choices=("fused", "appearance", "relation"),
    ),
    "TEST.ATTACKS": Key(
        [],
        'Names of the ATTACK registry, as published or with "-strong" added. With any, '
        "TEST.EVALUATOR is RobustEvaluator. A report takes those that its level lacks, too.",
        names=True,
        unique=True,
    ),
    "TEST.SELECT": Key(
        "clean",
        "Rows whose (Rank-1 + mAP) / 2 chooses the best checkpoint where there are attacks: the "
        "clean ones or the worst case.",
        choices=("clean", "worst"),
    ),
    "TEST.EXPECTED_RESULTS": Key(
        [],
        "Rows of [task, metric, expected, tolerance], in percent; a run that misses one exits 1. A "
        'task is "DATASET/DIRECTION", as the printed table names it.',
    ),
    "TEST.RANK_PICTURE": Key(
        0,
        "Queries on the picture of ranked clips at the end of a run; 0 draws no picture.",
        least=0,
    ),
    # ---- attack ----------------------------------------------------------------------------------
    "ATTACK.NORM": Key(
        "linf",
        "Norm of the budget. linf bounds each pixel; l2 bounds all pixels of all clips of a query "
        "together.",
        choices=("linf", "l2"),
    ),
    "ATTACK.EPS": Key(
        8.0, "Radius of the ball around the clean images, in gray levels (0 to 255).", least=0
    ),
    "ATTACK.FRAMES": Key(
        "dense",
        "Perturbation of a clip. dense: one for each frame; shared: one for all frames; sparse: on "
        "SPARSE_FRAMES frames alone, chosen by the gradient; smooth: between frames a pixel's "
        "perturbation changes by at most SMOOTH_TAU.",
        choices=("dense", "shared", "sparse", "smooth"),
    ),
    "ATTACK.SPARSE_FRAMES": Key(1, "Attacked frames of a clip with FRAMES sparse.", least=1),
    "ATTACK.SMOOTH_TAU": Key(
        2.0, "Largest change between frames with FRAMES smooth, in gray levels.", least=0
    ),
    "ATTACK.ACCESS": Key(
        "files",
        "What the attacker changes: the files of frames, or what a camera records, where an "
        "infrared frame has one channel.",
        choices=("files", "camera"),
    ),
    "ATTACK.INFRARED": Key(
        "access",
        "Perturbation of infrared frames: free, or tied, which is equal in the three channels; "
        "access is free for files and tied for a camera, see ACCESS.",
        choices=("access", "free", "tied"),
    ),
    "ATTACK.SEED": Key(
        0,
        "Seed of random starts, for each query and restart, and of stochastic models.",
        least=0,
        most=2**32 - 1,
    ),
    "ATTACK.STEPS": Key(0, "Steps of every attack; 0 keeps the published number.", least=0),
    "ATTACK.STEP_SIZE": Key(
        0.0,
        "Step size of attacks with a constant one (APGD has none), in gray levels or, for l2, in "
        "units of that norm; 0 keeps the published size, which is one for linf.",
        least=0,
    ),
    "ATTACK.RESTARTS": Key(
        0, "Random restarts of every attack; 0 keeps the published number.", least=0
    ),
    "ATTACK.EOT": Key(
        0,
        "Passes whose gradients are averaged (expectation over transformation); 0 keeps the "
        "published number.",
        least=0,
    ),
    "ATTACK.SIDE": Key("query", "Side that TEST.ATTACKS attack.", choices=("query", "gallery")),
    "ATTACK.QUERIES": Key(
        0, "Attacked items of a direction, drawn with SEED; 0 attacks all.", least=0
    ),
    "ATTACK.BATCH": Key(16, "Items that each process attacks at a time.", least=1),
    "ATTACK.SAVE_IMAGES": Key(
        "",
        "Folder for the attacked images of one run, a data set for each retrieval task and attack; "
        "empty saves none. They are read again with INPUT.CLIP.SAMPLING segments.",
        pattern=(r"(?!(?i:true|false|yes|no)$).*", "a folder, such as logs/images, or nothing"),
    ),
    # ---- defense ---------------------------------------------------------------------------------
    "DEFENSE.INNER": Key(
        "FNA",
        "Attack inside training: a name of the ATTACK registry, AntiCollapse (ACT) or "
        "HardnessManipulation (HM). It takes NORM, FRAMES, ACCESS and INFRARED from ATTACK.",
    ),
    "DEFENSE.EPS": Key(8.0, "Budget of the inner attack, in gray levels.", least=0),
    "DEFENSE.STEPS": Key(10, "Steps of the inner attack.", least=1),
    "DEFENSE.STEP_SIZE": Key(2.0, "Step size of the inner attack, in gray levels.", above=0),
    "DEFENSE.WARMUP_EPOCHS": Key(
        0, "Epochs in which EPS and STEP_SIZE grow from 0 to their values.", least=0
    ),
    "DEFENSE.CLEAN_WEIGHT": Key(
        1.0, "Weight of the losses on clean batches; 0 does not compute them.", least=0
    ),
    "DEFENSE.ATTACKED_WEIGHT": Key(
        1.0, "Weight of the losses on attacked batches; 0 does not compute them.", least=0
    ),
    "DEFENSE.DISTANCE_WEIGHT": Key(
        0.0,
        "Weight (beta of TRADES) of the squared distance between clean and attacked features, as "
        "TEST.METRIC compares them; 0 does not compute it.",
        least=0,
    ),
    "DEFENSE.TRIPLET_WEIGHT": Key(
        0.0,
        "Weight of the triplet loss on the triplets that INNER AntiCollapse or "
        "HardnessManipulation attacks.",
        least=0,
    ),
    "DEFENSE.ICS_WEIGHT": Key(
        0.0, "Weight (lambda of ICS) of the intra-class structure loss of HM.", least=0
    ),
    "DEFENSE.TRIPLET.MARGIN": Key(
        0.2,
        "Margin (gamma) of attacked triplets, between features as TEST.METRIC compares them.",
        least=0,
    ),
    "DEFENSE.GOAT.POSITIVES": Key(4, "Drawn guides of the same person with INNER GOAT.", least=0),
    "DEFENSE.GOAT.NEGATIVES": Key(1, "Farthest guides of other people with INNER GOAT.", least=0),
    "DEFENSE.FNES.ENABLED": Key(
        False,
        "Whether DDDefenseStep softens: attacked images are drawn further out, with labels that "
        "say so (farthest-negative extension softening).",
    ),
    "DEFENSE.FNES.GAMMA": Key(
        2.0,
        "Reach (gamma) of x_temp, in distances from a clean image to its attacked version.",
        least=1,
    ),
    "DEFENSE.FNES.MIX": Key(
        [0.0, 1.0],
        "Bounds (a, b) of the share w ~ U(a, b) of the clean image.",
        lengths=(2,),
        least=0,
        most=1,
    ),
    "DEFENSE.FNES.CLEAN_MASS": Key(
        0.9, "Share (l_1) of the true class in a clean image's label.", above=0, most=1
    ),
    "DEFENSE.FNES.ATTACKED_MASS": Key(
        0.7,
        "Share (l_2) of the true class in the label of x_temp, before mass moves.",
        above=0,
        most=1,
    ),
    "DEFENSE.FNES.MOVED_MASS": Key(
        0.2, "Mass (v) that moves from l_2 to the farthest negative class.", least=0
    ),
    "DEFENSE.CENTROIDS.SOURCE": Key(
        "batch",
        "Centroids among which FNES finds the farthest negative class: of the batch, or a bank of "
        "running ones of all people. The inner attack takes its target from the batch.",
        choices=("batch", "bank"),
    ),
    "DEFENSE.CENTROIDS.MOMENTUM": Key(
        0.9, "Share of its value that a centroid of the bank keeps.", least=0, below=1
    ),
    "DEFENSE.DISCRIMINATOR.ENABLED": Key(
        False, "Whether DDDefenseStep plays the game that makes attacked features look clean."
    ),
    "DEFENSE.DISCRIMINATOR.HIDDEN": Key(512, "Hidden units of the discriminator.", least=1),
    "DEFENSE.DISCRIMINATOR.BASE_LR": Key(
        0.0001, "Learning rate of the discriminator's Adam.", above=0
    ),
    "DEFENSE.DISCRIMINATOR.WEIGHT": Key(0.1, "Weight of L_E.", least=0),
    "DEFENSE.DISCRIMINATOR.SATURATING": Key(
        False,
        "Whether L_E is the value of the game; else it is how much more attacked each feature "
        "looks than its clean copy.",
    ),
    "DEFENSE.META.ENABLED": Key(
        False,
        "Whether DDDefenseStep uses self-meta: a step on half of the batch's people must help on "
        "the other half.",
    ),
    "DEFENSE.META.SECOND_ORDER": Key(
        False, "Whether the gradient goes through that step (second order)."
    ),
    "DEFENSE.META.ALPHA": Key(
        0.0,
        "Learning rate (alpha) of that step; 0 takes the current rate of the optimizer.",
        least=0,
    ),
}
