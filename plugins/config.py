"""Every key this package adds to fastreid's config, and the one way to read a config.

A comment gives the unit, the choices and, where there is one, the paper's symbol.
"""

import os
import re
from collections.abc import Sequence

from fastreid.config import CfgNode, get_cfg

from plugins.errors import InputError
from plugins.registry import nearest
from plugins.utils.images import MAX_PIXELS
from plugins.utils.values import as_type_of, shortened
from plugins.utils.yaml_files import read_yaml

BASE = "_BASE_"
ASSIGNMENT = re.compile(r"([A-Za-z_][\w.]*)=")

# The least value of numbers that this package or fastreid divides by, counts, scales or waits with.
LEAST = {
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.BALANCE.GENERATOR.BATCH": 1,
    "DATASETS.BALANCE.GENERATOR.CHECKPOINT_PERIOD": 1,
    "DATASETS.BALANCE.GENERATOR.GUIDANCE": 0,
    "DATASETS.BALANCE.GENERATOR.LAYERS": 1,
    "DATASETS.BALANCE.GENERATOR.SAMPLING_STEPS": 1,
    "DATASETS.BALANCE.GENERATOR.STEPS": 1,
    "INPUT.CLIP.STRIDE": 1,
    "INPUT.MAX_PIXELS": 1,
    "MODEL.BACKBONE.LAST_STRIDE": 1,
    "MODEL.CROSS_MODAL_ATTENTION.DIM": 1,
    "MODEL.LOSSES.FRAMES.WEIGHT": 0,
    "MODEL.LOSSES.MODALITY_CONFUSION.HIDDEN": 1,
    "MODEL.SELF_ATTACK.EPS": 0,
    "MODEL.SELF_ATTACK.LAMBDA_D": 0,
    "MODEL.SELF_ATTACK.STRENGTH_PERIOD": 0,
    "MODEL.TEMPORAL.ATTENTION.DIM": 1,
    "MODEL.TEMPORAL.LSTM.DIM": 1,
    "MODEL.TEMPORAL.STIG.COLUMNS": 1,
    "MODEL.TEMPORAL.STIG.DIM": 1,
    "MODEL.TEMPORAL.STIG.GUIDE_DIM": 1,
    "MODEL.TEMPORAL.STIG.RELATION.DIM": 0,
    "MODEL.TEMPORAL.STIG.RELATION.WEIGHT": 0,
    "MODEL.TEMPORAL.STIG.STRIPES": 1,
    "MODEL.TEMPORAL.TRANSFORMER.DIM": 1,
    "SOLVER.ACCUMULATION": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.MAX_EPOCH": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "TEST.EVAL_PERIOD": 1,
    "TEST.RANK_PICTURE": 0,
}
# numpy's seeds are below 2^32, and each process adds its rank.
LARGEST_SEED = 2**31 - 1
NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")
# What fastreid or this package knows of these.
CHOICES = {
    "MODEL.BACKBONE.NORM": NORMS,
    "MODEL.HEADS.CLS_LAYER": ("Linear", "ArcSoftmax", "CosSoftmax", "CircleSoftmax"),
    "MODEL.HEADS.NECK_FEAT": ("before", "after"),
    "MODEL.HEADS.NECK_LEVEL": ("clip", "frame"),
    "MODEL.HEADS.NORM": NORMS,
    # What this package knows of its own.
    "MODEL.SELF_ATTACK.AFTER": ("layer1", "layer2", "layer3"),
    "MODEL.SELF_ATTACK.NORMALIZATION": ("auto", "attacked", "clean"),
    "MODEL.SELF_ATTACK.PARTNER": ("same_person", "other_person"),
    "MODEL.SELF_ATTACK.PARTNER_MODALITY": ("any", "same", "other"),
    "MODEL.SPATIAL_POOLING.KIND": ("mean", "gem", "max"),
    "MODEL.TEMPORAL.NORM.STATISTICS": ("modality", "joint"),
    "MODEL.TEMPORAL.STIG.RELATION.JOIN": ("concatenate", "add"),
    "MODEL.TEMPORAL.STIG.RELATION.READS": ("cells", "changes"),
    "MODEL.TEMPORAL.STIG.SOURCE": ("layer2", "layer3", "layer4"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("norm", "value"),
    "SOLVER.SCHED": ("MultiStepLR", "CosineAnnealingLR"),
    "SOLVER.WARMUP_METHOD": ("constant", "linear", "exp"),
    "TEST.FEATURE": ("fused", "appearance", "relation"),
}
# Lists of names that are empty by default, so that the default does not tell what they hold.
NAMES = ("MODEL.FREEZE_LAYERS", "MODEL.LOSSES.FRAMES.NAME", "TEST.ATTACKS")
# A greater momentum follows single batches, whose statistics are those of few people.
LARGEST_MOMENTUM = 0.05


def add_plugin_keys(cfg: CfgNode) -> CfgNode:
    """Add this package's keys, with their defaults, to fastreid's; returns ``cfg``."""
    # Seeds Python, numpy, torch, the samplers and the workers. -1 draws a seed and logs it.
    cfg.SEED = -1

    # ---- model -----------------------------------------------------------------------------------
    # Fastreid backbone that build_two_stream_backbone cuts into two stems and one shared trunk:
    # build_resnet_backbone, build_mobilenetv2_backbone (DEPTH 1.0x, FEAT_DIM 1280) or
    # build_osnet_backbone (DEPTH x1_0 to x0_25, FEAT_DIM 512 to 128).
    cfg.MODEL.BACKBONE.TRUNK = "build_resnet_backbone"
    # One stem for both modalities (M3-ReID) instead of one for each.
    cfg.MODEL.BACKBONE.SHARED_STEM = False
    # How the map of a frame becomes its feature: mean, gem (generalized mean, with a learned p that
    # starts at P, 1 to 100) or max. MODEL.HEADS.POOL_LAYER is not read.
    cfg.MODEL.SPATIAL_POOLING = CfgNode({"KIND": "mean", "P": 3.0})
    # Temporal aggregation, a name of the TEMPORAL registry: how T frame maps become one feature.
    cfg.MODEL.TEMPORAL = CfgNode({"NAME": "TemporalMean"})
    # Normalization of what STIG, TemporalAttention, TemporalLSTM and TemporalTransformer read.
    # STATISTICS: modality (one set for each) or joint. MOMENTUM: least weight of the newest batch
    # in the recorded statistics, at most 0.05. MODEL.BACKBONE.NORM syncBN gathers them from all
    # ranks.
    cfg.MODEL.TEMPORAL.NORM = CfgNode({"STATISTICS": "modality", "MOMENTUM": 0.05})

    # Spatial-temporal-information-guided aggregation (SADSTRM).
    cfg.MODEL.TEMPORAL.STIG = CfgNode()
    cfg.MODEL.TEMPORAL.STIG.SOURCE = "layer4"  # stage whose maps are cut into cells
    cfg.MODEL.TEMPORAL.STIG.STRIPES = 6  # rows of cells, head to feet
    cfg.MODEL.TEMPORAL.STIG.COLUMNS = 1  # columns of cells
    cfg.MODEL.TEMPORAL.STIG.DIM = 256  # length of a cell's descriptor
    cfg.MODEL.TEMPORAL.STIG.GUIDE_DIM = 128  # hidden length of the guidance layer
    cfg.MODEL.TEMPORAL.STIG.SPATIAL = True  # relation between the cells of a frame
    cfg.MODEL.TEMPORAL.STIG.TEMPORAL = True  # relation between the frames of a cell
    # Share of the normalized cells' values that training sets to 0, below 1.
    cfg.MODEL.TEMPORAL.STIG.DROPOUT = 0.0
    # The relation as a feature of its own.
    cfg.MODEL.TEMPORAL.STIG.RELATION = CfgNode()
    cfg.MODEL.TEMPORAL.STIG.RELATION.DIM = 256  # its length; 0: the relation only guides
    # cells and their changes; or changes alone, which looks that stand still do not reach.
    cfg.MODEL.TEMPORAL.STIG.RELATION.READS = "cells"
    # How it joins the test feature: concatenate, or add, by a projection that starts at 0.
    cfg.MODEL.TEMPORAL.STIG.RELATION.JOIN = "concatenate"
    cfg.MODEL.TEMPORAL.STIG.RELATION.WEIGHT = 1.0  # of its identity and cross-modal triplet loss

    # TemporalGeM: p at the start, 1 (mean) to 100 (nearly the maximum); learned from there.
    cfg.MODEL.TEMPORAL.GEM = CfgNode({"P": 3.0})
    # TemporalAttention: hidden length of the layer that scores a frame.
    cfg.MODEL.TEMPORAL.ATTENTION = CfgNode({"DIM": 256})
    # TemporalLSTM: length of the hidden state.
    cfg.MODEL.TEMPORAL.LSTM = CfgNode({"DIM": 256})
    # TemporalTransformer: length of a frame's token, a multiple of HEADS and even; encoder layers.
    cfg.MODEL.TEMPORAL.TRANSFORMER = CfgNode({"DIM": 256, "HEADS": 4, "LAYERS": 2})
    # TemporalShift: share of the channels that moves by one frame, each way; at most 0.5.
    cfg.MODEL.TEMPORAL.SHIFT = CfgNode({"SHARE": 0.125})

    # Training only: a clip's feature attends to its person's clips of the other modality (SADSTRM).
    # DIM: length of queries, keys and values.
    cfg.MODEL.CROSS_MODAL_ATTENTION = CfgNode({"ENABLED": False, "DIM": 256})

    # A second branch of every BatchNorm, for attacked batches (AdvProp, Xie et al., CVPR 2020).
    # DEPLOYED: the branch of evaluation, clean or attacked; a checkpoint has it under stock names.
    cfg.MODEL.DUAL_NORM = CfgNode({"ENABLED": False, "DEPLOYED": "clean"})

    # Where the BNNeck takes its statistics from: clip, or frame, and then a clip's feature is the
    # mean of its frames' behind the BNNeck (M3-ReID).
    cfg.MODEL.HEADS.NECK_LEVEL = "clip"
    # Losses on frames, names as in NAME with the same settings, and what they are weighted by;
    # frames have a classifier of their own. They need NECK_LEVEL frame.
    cfg.MODEL.LOSSES.FRAMES = CfgNode({"NAME": [], "WEIGHT": 1.0})

    # Cross-modal batch-hard triplet.
    cfg.MODEL.LOSSES.CROSS_MODAL_TRI = CfgNode({"MARGIN": 0.3, "SCALE": 1.0})
    # Hetero-centre triplet; MARGIN: rho, feature units.
    cfg.MODEL.LOSSES.HETERO_CENTER_TRI = CfgNode({"MARGIN": 0.3, "SCALE": 1.0})
    # AGW's weighted regularised triplet, which has no margin.
    cfg.MODEL.LOSSES.WEIGHTED_REG_TRI = CfgNode({"SCALE": 1.0})
    # Alignment of M3-ReID: soft margin on mean cosine distances across the modalities.
    cfg.MODEL.LOSSES.CROSS_MODAL_ALIGNMENT = CfgNode({"SCALE": 1.0})
    # Separation of M3-ReID: squared cosines between the frames of a clip; needs NECK_LEVEL frame.
    cfg.MODEL.LOSSES.FRAME_SEPARATION = CfgNode({"SCALE": 1.0})
    # Less proven: squared distance of a person's centers in the two modalities (hetero-center
    # loss); and a classifier of the modality, with HIDDEN units, that the features learn to fool.
    cfg.MODEL.LOSSES.CENTER_ALIGNMENT = CfgNode({"SCALE": 1.0})
    cfg.MODEL.LOSSES.MODALITY_CONFUSION = CfgNode({"SCALE": 0.1, "HIDDEN": 128})
    # Divergence of a person's mean predictions in the two modalities.
    cfg.MODEL.LOSSES.KL_CONSISTENCY = CfgNode({"SCALE": 1.0})

    # Adversarial self-attack (SADSTRM), training only.
    cfg.MODEL.SELF_ATTACK = CfgNode()
    # Three kinds attack the stem maps F0: learned (by a module), gradient (of L_A) and random
    # (noise, a control). Four attack the maps after the stage AFTER with other clips of the batch:
    # style (a drawn partner's channel statistics), style_worst (the worst partner's), statistics (a
    # step within a person's deviation) and background (cells that show no person). Others are names
    # of the SELF_ATTACK registry.
    cfg.MODEL.SELF_ATTACK.KIND = "learned"
    # eps. gradient, random: |Delta| / |F0| of each frame; learned: the largest |Delta| / |F0|, so
    # that its fair control has the "self_attack/relative_norm" that it logs. style: the partner's
    # share is drawn from [0, eps], 1 takes the partner's statistics; style_worst: the share is eps.
    # statistics: the step, in deviations within a person. background: the share of the cells.
    cfg.MODEL.SELF_ATTACK.EPS = 0.3
    cfg.MODEL.SELF_ATTACK.AFTER = "layer2"  # layer1, layer2 or layer3, which the modalities share
    # same_person: another camera or modality of the person; other_person: a clip of anyone else.
    cfg.MODEL.SELF_ATTACK.PARTNER = "same_person"
    cfg.MODEL.SELF_ATTACK.PARTNER_MODALITY = "any"  # any, same, other
    # The batch whose statistics normalize attacked maps: attacked, which cancels what all of them
    # share, or clean; auto is attacked for learned, gradient and random, and clean for the others.
    cfg.MODEL.SELF_ATTACK.NORMALIZATION = "auto"
    cfg.MODEL.SELF_ATTACK.HEADS = 4  # heads of the channel attention
    cfg.MODEL.SELF_ATTACK.CONF_WEIGHT = 1.0  # L_conf: attacked prediction towards uniform
    cfg.MODEL.SELF_ATTACK.REV_WEIGHT = 1.0  # L_rev: reversed triplet
    cfg.MODEL.SELF_ATTACK.MOD_WEIGHT = 0.5  # L_mod: the attacked map looks like the other modality
    cfg.MODEL.SELF_ATTACK.CAM_WEIGHT = 0.0  # L_cam: the attacked map looks like another camera
    cfg.MODEL.SELF_ATTACK.TEMPERATURE = 4.0  # the logits of L_conf are divided by this
    cfg.MODEL.SELF_ATTACK.MARGIN = 0.3  # m of L_rev, feature units
    cfg.MODEL.SELF_ATTACK.LAMBDA_A = 1.0  # lambda_a: weight of the losses on attacked features
    cfg.MODEL.SELF_ATTACK.LAMBDA_C = 0.5  # lambda_c: weight of KL(clean || attacked)
    cfg.MODEL.SELF_ATTACK.LAMBDA_D = 0.0  # weight of |f - f~|, mean over the clips; 0: no such term
    # Iterations between two measurements of |f - f~| in evaluation mode; 0 makes none.
    cfg.MODEL.SELF_ATTACK.STRENGTH_PERIOD = 50
    cfg.MODEL.SELF_ATTACK.NUM_CAMERAS = 0  # 0: counted in the training set

    # ---- input -----------------------------------------------------------------------------------
    cfg.INPUT.CLIP = CfgNode({"LENGTH": 6})  # T: frames of a clip, and segments of a tracklet
    # Frames of a clip: segments (the first of each at test, a random one in training); linspace
    # (BUPTCampus's own code at test, segments in training); or window: frames at equal distances
    # of STRIDE, from a random start in training, in the middle at test.
    cfg.INPUT.CLIP.SAMPLING = "segments"
    cfg.INPUT.CLIP.STRIDE = 1  # frames from one frame of a window to the next
    # A clip turns grey with random weights of its colours, so that colour is no identity (channel
    # augmentation, Ye et al., ICCV 2021, picks one of them); infrared clips stay as they are.
    cfg.INPUT.CHANNEL_MIX = CfgNode({"ENABLED": False, "PROB": 0.5})
    # A visible clip gets its red, green and blue in another order; infrared clips have no color.
    # Either, and fastreid's REA (erasing), draws once for all frames of a clip. REA's box is gray,
    # the mean of REA.VALUE, in infrared clips.
    cfg.INPUT.CHANNEL_SWAP = CfgNode({"ENABLED": False, "PROB": 0.5})
    # Style variation (SAADG): the model multiplies the normalized channels of a training clip by
    # draws from U(RANGE): one a channel in visible clips, one for all channels in infrared ones.
    cfg.INPUT.STYLE_VARIATION = CfgNode({"ENABLED": False, "RANGE": [0.5, 1.5], "PROB": 1.0})

    # Pixels that an image file may have, width times height: a small file may unpack to gigabytes.
    cfg.INPUT.MAX_PIXELS = MAX_PIXELS

    # Folder of frames that tools/cache_data.py packed at the input's size; empty
    # decodes the files.
    cfg.DATALOADER.FRAME_CACHE = ""

    # ---- data sets -------------------------------------------------------------------------------
    cfg.DATASETS.BUPT = CfgNode()
    # full (M3-ReID: everything, the camera rule) or official (AuxNet: no camera rule, visible rows
    # cut to a multiple of 64); their numbers do not compare.
    cfg.DATASETS.BUPT.PROTOCOL = "full"
    cfg.DATASETS.BUPT.AUXILIARY = False  # train on the one-camera people of train_auxiliary.txt too
    cfg.DATASETS.BUPT.FAKE_IR = False  # train on the translated infrared frames too
    # FolderDataset: its folder, in FASTREID_DATASETS or absolute; share of the people that train,
    # by sorted folder names, rounded up.
    cfg.DATASETS.FOLDER = CfgNode({"ROOT": "people", "TRAIN_SHARE": 2 / 3})
    # ManifestDataset: its CSV or Parquet file, in FASTREID_DATASETS or absolute.
    cfg.DATASETS.MANIFEST = CfgNode({"FILE": "manifest.csv"})
    # SYSUMM01. MODE: cameras of the gallery, all or indoor. SHOT: its images of a person under a
    # camera, 1 or 10. DRAW: official (the authors' permutations) or seeded (AGW's code, SHOT 1);
    # their numbers do not compare.
    cfg.DATASETS.SYSU = CfgNode({"MODE": "all", "SHOT": 1, "DRAW": "official"})
    # RegDB: which of the ten splits, 1 to 10; each has its own training, scores are averaged.
    cfg.DATASETS.REGDB = CfgNode({"TRIAL": 1})
    # LLCM: sampled-gallery, deen-script (whose V2I has drawn infrared queries) or full-gallery;
    # their numbers do not compare.
    cfg.DATASETS.LLCM = CfgNode({"MODE": "sampled-gallery"})

    # HeldOutPeople: PEOPLE of the training people of NAME, drawn by SEED, are searched for instead.
    cfg.DATASETS.HELD_OUT = CfgNode({"NAME": "Market1501", "PEOPLE": 100, "SEED": 0})

    # ThinnedDataset: the training items of NAME, left out unevenly as IMBALANCE says, 0 to 1.
    cfg.DATASETS.THINNED = CfgNode({"NAME": "FolderDataset", "IMBALANCE": 0.7, "SEED": 0})

    # Balancing with generated images (DDDefense, phase 1), tools/balance_data.py.
    cfg.DATASETS.BALANCE = CfgNode()
    # The set that lacks images; BalancedDataset is this set with the generated ones.
    cfg.DATASETS.BALANCE.NAME = "Market1501"
    # Folder of plan, generator and images, in FASTREID_DATASETS or absolute.
    cfg.DATASETS.BALANCE.DIR = "balance"
    cfg.DATASETS.BALANCE.DELTA1 = 0  # delta_1: images each person shall have; 0: the rounded mean
    cfg.DATASETS.BALANCE.DELTA2 = 0.5  # delta_2: larger share of one camera calls for the others
    cfg.DATASETS.BALANCE.CANDIDATES = 5  # generated images of a slot, of which the best may stay
    cfg.DATASETS.BALANCE.TOP = 5  # the teacher must rank the right person among the first so many
    # It must also be as clear (cosine margin to the next person) as all but this share of the real
    # images; 0 asks for nothing.
    cfg.DATASETS.BALANCE.CLEAR = 0.0
    # The clean re-ID model that judges: config and checkpoint of its run.
    cfg.DATASETS.BALANCE.TEACHER = CfgNode({"CONFIG_FILE": "", "WEIGHTS": ""})
    # The diffusion model (EDM).
    cfg.DATASETS.BALANCE.GENERATOR = CfgNode()
    cfg.DATASETS.BALANCE.GENERATOR.SIZE = [128, 64]  # height, width of its images
    # The UNet takes PATCH x PATCH pixels as one: 2 is a quarter of the work of 1.
    cfg.DATASETS.BALANCE.GENERATOR.PATCH = 1
    # Channels of the UNet, from the resolution of patches down, each half of the one before.
    cfg.DATASETS.BALANCE.GENERATOR.CHANNELS = [64, 128, 256]
    cfg.DATASETS.BALANCE.GENERATOR.LAYERS = 2  # residual blocks of a resolution
    # Probability that person or camera, each on its own, is not told in training.
    cfg.DATASETS.BALANCE.GENERATOR.UNKNOWN = 0.1
    cfg.DATASETS.BALANCE.GENERATOR.EMA = 0.999  # decay of the averaged weights, which generate
    cfg.DATASETS.BALANCE.GENERATOR.BATCH = 64
    cfg.DATASETS.BALANCE.GENERATOR.BASE_LR = 0.0002  # of Adam, constant
    cfg.DATASETS.BALANCE.GENERATOR.STEPS = 50000
    cfg.DATASETS.BALANCE.GENERATOR.CHECKPOINT_PERIOD = 1000  # steps
    # euler or dpm (DPM-Solver++ multistep), and its evaluations of the network.
    cfg.DATASETS.BALANCE.GENERATOR.SCHEDULER = "euler"
    cfg.DATASETS.BALANCE.GENERATOR.SAMPLING_STEPS = 18
    # Classifier-free guidance; 1 is none, more is nearer to the condition and less various.
    cfg.DATASETS.BALANCE.GENERATOR.GUIDANCE = 1.0

    # ---- solver ----------------------------------------------------------------------------------
    # What one iteration does, a name of the STEP registry.
    cfg.SOLVER.STEP = "SimpleStep"
    # Batches whose gradients are averaged before one update.
    cfg.SOLVER.ACCUMULATION = 1
    # Epochs of warm-up; above 0 it replaces WARMUP_ITERS, and STEPS then count epochs from the
    # start of training (STEPS [35, 80]: epoch 35 is the first with a tenth of the rate).
    cfg.SOLVER.WARMUP_EPOCHS = 0
    # Decay, per update, of the moving average of the weights, which then is what is evaluated,
    # saved as the model and deployed; 0 averages nothing.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Iterations between two lines of the log.
    cfg.SOLVER.LOG_PERIOD = 200
    # Number format of mixed precision on CUDA: float16 (with loss scaling) or bfloat16.
    cfg.SOLVER.AMP.DTYPE = "float16"

    # The adversary's optimizer in AlternatingStep: SGD with momentum 0.9.
    cfg.SOLVER.ADVERSARY = CfgNode()
    cfg.SOLVER.ADVERSARY.START_EPOCH = 0  # epochs before it, the defender trains alone
    cfg.SOLVER.ADVERSARY.BASE_LR = 0.01
    cfg.SOLVER.ADVERSARY.MOMENTUM = 0.9
    cfg.SOLVER.ADVERSARY.WEIGHT_DECAY = 0.0005
    cfg.SOLVER.ADVERSARY.CLIP_NORM = 5.0  # largest norm of its whole gradient

    # ---- test ------------------------------------------------------------------------------------
    # A name of the EVALUATOR registry.
    cfg.TEST.EVALUATOR = "VVIEvaluator"
    # Clips of a tracklet whose features are averaged: 1, the first frame of each of its T segments;
    # k, at most k such clips at offsets spread over the segments; 0, all its frames, T at a time.
    # Of INPUT.CLIP.SAMPLING window: the one in the middle; at most k, evenly spread; as many as
    # show every frame.
    cfg.TEST.CLIPS = 1
    # Frames as a worse camera records them, plugins/data/corruptions.py. KIND: none, noise, blur,
    # jpeg or gamma; SEVERITY: 1 to 5; SEED: of the noise. ITEMS: all; query or gallery, where each
    # is a list of its own; infrared: the queries of I2V and the gallery of V2I; or visible, the
    # other way round.
    cfg.TEST.CORRUPTION = CfgNode({"KIND": "none", "SEVERITY": 3, "ITEMS": "all", "SEED": 0})
    # Which feature a test compares, with a temporal part that has a relation (STIG): fused, or
    # appearance or relation alone.
    cfg.TEST.FEATURE = "fused"
    # Names of the ATTACK registry, such as [SMA, FNA, RankMargin], as published or with "-strong"
    # added; when there are any, TEST.EVALUATOR is RobustEvaluator.
    cfg.TEST.ATTACKS = []
    # What chooses the best checkpoint when there are: the (Rank-1 + mAP) / 2 of the clean rows, or
    # of the worst case.
    cfg.TEST.SELECT = "clean"
    # Rows of [task, metric, expected, tolerance], percent; a run that misses one exits 1. Task is
    # "DATASET/DIRECTION", as the printed table names it.
    cfg.TEST.EXPECTED_RESULTS = []
    # Queries drawn on the picture of ranked clips at the end of a run; 0 draws none.
    cfg.TEST.RANK_PICTURE = 0

    # ---- attack ----------------------------------------------------------------------------------
    # The threat model; pixels, budgets and steps in 0-255 units, before normalisation.
    cfg.ATTACK = CfgNode()
    # linf: each pixel by at most EPS; l2: the norm over all pixels of all clips of a query.
    cfg.ATTACK.NORM = "linf"
    cfg.ATTACK.EPS = 8.0
    # dense: each frame its own perturbation; shared: one for a clip; sparse: only SPARSE_FRAMES
    # frames, by the gradient; smooth: a pixel's changes by at most SMOOTH_TAU from frame to frame.
    cfg.ATTACK.FRAMES = "dense"
    cfg.ATTACK.SPARSE_FRAMES = 1
    cfg.ATTACK.SMOOTH_TAU = 2.0
    # Infrared frames: free, or tied: equal in the three channels, as a camera would record it.
    cfg.ATTACK.INFRARED = "free"
    # Of random starts, per query and restart; and of a model that draws.
    cfg.ATTACK.SEED = 0
    # What overrides an attack's own recipe; 0 does not. STEP_SIZE in the units of NORM, for steps
    # of one length, not APGD's; l2 needs one, as published ones are linf's. EOT: passes whose
    # gradients are averaged.
    cfg.ATTACK.STEPS = 0
    cfg.ATTACK.STEP_SIZE = 0.0
    cfg.ATTACK.RESTARTS = 0
    cfg.ATTACK.EOT = 0
    # What TEST.ATTACKS attack: query or gallery; how many of its items a direction, drawn with
    # SEED, 0 for all; how many at a time in each process.
    cfg.ATTACK.SIDE = "query"
    cfg.ATTACK.QUERIES = 0
    cfg.ATTACK.BATCH = 16
    # Folder for the attacked images of one run, a data set per search and attack; empty saves none.
    # They are read again with INPUT.CLIP.SAMPLING segments, whatever sampling took them.
    cfg.ATTACK.SAVE_IMAGES = ""

    # ---- defence: AdversarialStep ----------------------------------------------------------------
    # The attack inside training, a name of the ATTACK registry, AntiCollapse (ACT) or
    # HardnessManipulation (HM); it takes NORM, FRAMES and INFRARED from ATTACK. Units: 0-255.
    cfg.DEFENSE = CfgNode()
    cfg.DEFENSE.INNER = "FNA"
    cfg.DEFENSE.EPS = 8.0
    cfg.DEFENSE.STEPS = 10
    cfg.DEFENSE.STEP_SIZE = 2.0
    # Epochs in which EPS and STEP_SIZE grow from 0 to what they are.
    cfg.DEFENSE.WARMUP_EPOCHS = 0
    # Weights of the losses on clean batches, of those on attacked batches, and of the squared
    # distance of their features (beta of TRADES), as TEST.METRIC compares them. 0: not computed.
    cfg.DEFENSE.CLEAN_WEIGHT = 1.0
    cfg.DEFENSE.ATTACKED_WEIGHT = 1.0
    cfg.DEFENSE.DISTANCE_WEIGHT = 0.0
    # INNER AntiCollapse or HardnessManipulation, which attack triplets of the batch: weights of the
    # triplet loss on these, and of the intra-class structure loss (lambda of ICS); MARGIN: gamma,
    # between features as TEST.METRIC compares them.
    cfg.DEFENSE.TRIPLET_WEIGHT = 0.0
    cfg.DEFENSE.ICS_WEIGHT = 0.0
    cfg.DEFENSE.TRIPLET = CfgNode({"MARGIN": 0.2})
    # INNER GOAT: drawn guides of the same person, farthest ones of others.
    cfg.DEFENSE.GOAT = CfgNode({"POSITIVES": 4, "NEGATIVES": 1})

    # ---- defence: DDDefenseStep ------------------------------------------------------------------
    # Farthest-negative extension softening: attacked images drawn further out, labels that say so.
    cfg.DEFENSE.FNES = CfgNode({"ENABLED": False})
    cfg.DEFENSE.FNES.GAMMA = 2.0  # gamma: reach of x_temp, in distances from x to its attacked twin
    cfg.DEFENSE.FNES.MIX = [0.0, 1.0]  # a, b: w ~ U(a, b), the share of the clean image
    cfg.DEFENSE.FNES.CLEAN_MASS = 0.9  # l_1: the true class's share of a clean image's label
    cfg.DEFENSE.FNES.ATTACKED_MASS = 0.7  # l_2: the same of x_temp's, before mass moves
    cfg.DEFENSE.FNES.MOVED_MASS = 0.2  # v: what the farthest negative class gets of l_2
    # Centroids among which FNES finds the farthest negative class: batch, or bank: running ones of
    # all people, that keep MOMENTUM of their value. The inner attack always aims within the batch.
    cfg.DEFENSE.CENTROIDS = CfgNode({"SOURCE": "batch", "MOMENTUM": 0.9})
    # The game that makes attacked features look clean; an MLP with one hidden layer, and its Adam.
    cfg.DEFENSE.DISCRIMINATOR = CfgNode({"ENABLED": False, "HIDDEN": 512, "BASE_LR": 0.0001})
    cfg.DEFENSE.DISCRIMINATOR.WEIGHT = 0.1  # of L_E
    # L_E: the game's value, else how much more attacked than its own clean copy each feature looks.
    cfg.DEFENSE.DISCRIMINATOR.SATURATING = False
    # Self-meta: a step on half of the batch's people must help on the others. ALPHA: alpha, rate of
    # that step; 0: the optimizer's rate of the moment.
    cfg.DEFENSE.META = CfgNode({"ENABLED": False, "SECOND_ORDER": False, "ALPHA": 0.0})
    return cfg


def default_cfg() -> CfgNode:
    """Fastreid's defaults with this package's keys."""
    return add_plugin_keys(get_cfg())


def setup_cfg(config_file: str = "", opts: Sequence | None = None) -> CfgNode:
    """Read a config: defaults, then the file with its ``_BASE_`` chain, then the overrides.

    Args:
        config_file: path of a YAML file; empty for the defaults.
        opts: keys and values by turns, or KEY=VALUE, as on the command line.

    Returns:
        A CfgNode, not frozen.

    Raises:
        InputError: names the file and the key, with the nearest known key; or a key whose value
            no run can have.
    """
    cfg = default_cfg()
    if config_file:
        merge(cfg, read_config(config_file), source=config_file)
    for key, value in split_overrides(opts or []):
        check_key(cfg, key, source="command line")
        set_value(cfg, key, value, source="command line")
    check_values(cfg)
    return cfg


def split_overrides(words: Sequence) -> list[tuple[str, object]]:
    """Split KEY VALUE and KEY=VALUE overrides into pairs.

    Raises:
        InputError: the last key has no value.

    >>> split_overrides(["SEED", "1", "OUTPUT_DIR=logs/a=b"])
    [('SEED', '1'), ('OUTPUT_DIR', 'logs/a=b')]
    """
    pairs, rest = [], list(words)
    while rest:
        key = str(rest.pop(0))
        if joined := ASSIGNMENT.match(key):
            pairs.append((joined[1], key[joined.end() :]))
        elif rest:
            pairs.append((key, rest.pop(0)))
        else:
            raise InputError(
                f"command line: '{key}' has no value; expected KEY VALUE or KEY=VALUE, such as "
                "OUTPUT_DIR logs/run"
            )
    return pairs


def read_config(config_file: str) -> dict:
    """Read the file and its ``_BASE_`` chain as one dictionary.

    Raises:
        InputError: a file of the chain is missing, is not UTF-8 or not YAML, or changes a section
            into a value; or the chain does not end.
    """
    if not os.path.isfile(config_file):
        raise InputError(f"--config-file {config_file}: no such file")
    tree, base = read_link(config_file)
    chain = [config_file]
    while base:
        if any(os.path.samefile(base, file) for file in chain):
            raise InputError(f"{chain[-1]}: its _BASE_ leads back to {base}")
        chain.append(base)
        below, base = read_link(chain[-1])
        tree = inherit(below, tree, chain[-2])
    return tree


def read_link(file: str) -> tuple[dict, str]:
    """Read one file of a chain: what it holds itself, and its ``_BASE_``'s path, empty without one.

    Raises:
        InputError: the file is not a readable file of KEY: VALUE lines, or its _BASE_ is none.
    """
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected KEY: VALUE lines")
    if BASE not in tree:
        return tree, ""
    base = tree.pop(BASE)
    if not (isinstance(base, str) and base):
        raise InputError(f"{file}: {BASE}: {shortened(base)}; expected the path of one file")
    path = os.path.join(os.path.dirname(file), os.path.expanduser(base))
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise InputError(f"{file}: its {BASE} {path} {what}; expected a file")
    return tree, path


def inherit(base: dict, tree: dict, source: str) -> dict:
    """Put the entries of ``tree`` into a copy of ``base``, section by section.

    Raises:
        InputError: a section of ``tree`` is a value in ``base``.
    """
    merged = dict(base)
    for key, value in tree.items():
        if isinstance(value, dict) and key in base:
            if not isinstance(base[key], dict):
                raise InputError(
                    f"{source}: {key} is a section here and a value in its {BASE}; expected one"
                )
            merged[key] = inherit(base[key], value, source)
        else:
            merged[key] = value
    return merged


def merge(cfg: CfgNode, loaded: dict, source: str) -> None:
    """Merge a nested dictionary into ``cfg``, each value as one of its key's type.

    Raises:
        InputError: names ``source`` and the key.
    """
    for key, value in flatten(loaded):
        if value == {} and is_section(cfg, key):
            continue  # a section in which nothing is set
        check_key(cfg, key, source)
        set_value(cfg, key, value, source)


def set_value(cfg: CfgNode, key: str, value: object, source: str) -> None:
    """Set a key of ``cfg`` to ``value``, as a value of the type that it has.

    Raises:
        InputError: it is of another type, see :func:`plugins.utils.values.as_type_of`.
    """
    *sections, name = key.split(".")
    for section in sections:
        cfg = cfg[section]
    try:
        cfg[name] = as_type_of(cfg[name], value)
    except ValueError as error:
        raise InputError(f"{source}: {key}: {error}") from error


def flatten(tree: dict, prefix: str = "") -> list[tuple[str, object]]:
    """Leaves of a nested dictionary as (dotted key, value); an empty dictionary is a leaf.

    >>> flatten({"A": {"B": 1}, "C": 2})
    [('A.B', 1), ('C', 2)]
    """
    leaves = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves += flatten(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def check_key(cfg: CfgNode, key: str, source: str) -> None:
    """Raise InputError, naming the nearest keys, unless ``key`` is a leaf of ``cfg``."""
    leaves = [leaf for leaf, _ in flatten(cfg)]
    if key in leaves:
        return
    if is_section(cfg, key):
        raise InputError(f"{source}: {key} is a section, not a key; expected {key}.NAME VALUE")
    close = ", ".join(nearest(key[:60], leaves)[:3])
    raise InputError(f"{source}: no config key {shortened(key)}; nearest: {close}")


def is_section(cfg: CfgNode, key: str) -> bool:
    """Tell whether ``key`` names a section of ``cfg``."""
    node = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CfgNode) else None
    return isinstance(node, CfgNode)


def check_values(cfg: CfgNode) -> None:
    """Raise InputError for a value that no run can have, as of LEAST and CHOICES."""
    values = dict(flatten(cfg))
    for key, least in LEAST.items():
        if not values[key] >= least:
            raise InputError(f"{key}: {values[key]}; expected {least} or more")
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            raise InputError(f"{key}: '{values[key]}'; expected {' or '.join(choices)}")
    for key in NAMES:
        if not all(isinstance(name, str) for name in values[key]):
            raise InputError(f"{key}: {shortened(values[key])}; expected names")
    momentum = cfg.MODEL.TEMPORAL.NORM.MOMENTUM
    if not 0 < momentum <= LARGEST_MOMENTUM:
        raise InputError(
            f"MODEL.TEMPORAL.NORM.MOMENTUM: {momentum}; expected more than 0 and at most "
            f"{LARGEST_MOMENTUM}"
        )
    temporal = cfg.MODEL.TEMPORAL
    if not 0 <= temporal.STIG.DROPOUT < 1:
        raise InputError(
            f"MODEL.TEMPORAL.STIG.DROPOUT: {temporal.STIG.DROPOUT}; expected 0 or more, below 1"
        )
    if cfg.TEST.FEATURE != "fused" and (temporal.NAME != "STIG" or not temporal.STIG.RELATION.DIM):
        raise InputError(
            f"TEST.FEATURE: {cfg.TEST.FEATURE} needs a relation beside the appearance; found "
            f"MODEL.TEMPORAL.NAME {temporal.NAME} with MODEL.TEMPORAL.STIG.RELATION.DIM "
            f"{temporal.STIG.RELATION.DIM}; expected STIG and more than 0, or TEST.FEATURE fused"
        )
    if not cfg.MODEL.SELF_ATTACK.TEMPERATURE > 0:
        raise InputError(
            f"MODEL.SELF_ATTACK.TEMPERATURE: {cfg.MODEL.SELF_ATTACK.TEMPERATURE}; expected more "
            "than 0"
        )
    if cfg.SEED > LARGEST_SEED:
        raise InputError(f"SEED: {cfg.SEED}; expected {LARGEST_SEED} or less")
    if not cfg.MODEL.LOSSES.NAME:
        raise InputError("MODEL.LOSSES.NAME: it names no loss; expected one or more")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", cfg.MODEL.DEVICE):
        raise InputError(f"MODEL.DEVICE: '{cfg.MODEL.DEVICE}'; expected cpu, cuda or cuda:N")


def one_line(error: BaseException) -> str:
    """The message of an exception without its line breaks."""
    return " ".join(str(error).split())
