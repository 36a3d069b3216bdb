"""The config of a small balancing and that of its teacher, as files hold them."""

CONFIG = """
SEED: 0
MODEL: {DEVICE: cpu}
DATASETS:
  BALANCE:
    DELTA2: 0.4
    CANDIDATES: 2
    TOP: 1
    TEACHER: {CONFIG_FILE: teacher.yaml, WEIGHTS: teacher.pth}
    GENERATOR:
      SIZE: [32, 16]
      CHANNELS: [8, 8]
      LAYERS: 1
      BATCH: 2
      STEPS: 8
      CHECKPOINT_PERIOD: 1
      SAMPLING_STEPS: 2
"""

TEACHER = """
MODEL:
  META_ARCHITECTURE: Baseline
  DEVICE: cpu
  BACKBONE: {NAME: build_resnet_backbone, DEPTH: 18x, FEAT_DIM: 512, PRETRAIN: False}
  HEADS: {NAME: EmbeddingHead, WITH_BNNECK: True, NUM_CLASSES: 2}
INPUT: {SIZE_TEST: [32, 16]}
"""
