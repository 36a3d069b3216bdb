"""Keys that had another name once, so that an old config is told the new one."""

# A key that this package renames is added here, and to CHANGELOG.md. Those below are of fast-reid:
# its versions before 1.0 and 1.3 called them so.
RENAMED = {
    "INPUT.DO_FLIP": "INPUT.FLIP.ENABLED",
    "INPUT.FLIP_PROB": "INPUT.FLIP.PROB",
    "INPUT.DO_PAD": "INPUT.PADDING.ENABLED",
    "INPUT.PADDING": "INPUT.PADDING.SIZE",
    "INPUT.PADDING_MODE": "INPUT.PADDING.MODE",
    "INPUT.DO_CJ": "INPUT.CJ.ENABLED",
    "INPUT.DO_AFFINE": "INPUT.AFFINE.ENABLED",
    "INPUT.DO_AUTOAUG": "INPUT.AUTOAUG.ENABLED",
    "INPUT.AUTOAUG_PROB": "INPUT.AUTOAUG.PROB",
    "INPUT.DO_AUGMIX": "INPUT.AUGMIX.ENABLED",
    "INPUT.AUGMIX_PROB": "INPUT.AUGMIX.PROB",
    "INPUT.REA.MEAN": "INPUT.REA.VALUE",
    "MODEL.HEADS.IN_FEAT": "MODEL.BACKBONE.FEAT_DIM",
    "MODEL.HEADS.REDUCTION_DIM": "MODEL.HEADS.EMBEDDING_DIM",
}


def new_name(key: str) -> str:
    """Return what a key, written in any case, is called now; "" for a key without another name.

    >>> new_name("INPUT.DO_FLIP")
    'INPUT.FLIP.ENABLED'
    """
    return RENAMED.get(key.upper(), "")
