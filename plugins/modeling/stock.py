"""Check for parts of this package that fastreid's meta-architectures would leave out."""

from fastreid.config import CfgNode

from plugins.errors import InputError
from plugins.registry import META_ARCH, lookup

# Values of a config that leave a part out.
WITHOUT = {
    "INPUT.STYLE_VARIATION.ENABLED": False,
    "MODEL.BACKBONE.SHARED_STEM": False,
    "MODEL.HEADS.NECK_LEVEL": "clip",
    "MODEL.LOSSES.FRAMES.NAME": [],
    "MODEL.SPATIAL_POOLING.KIND": "mean",
}


def check_stock_parts(cfg: CfgNode) -> None:
    """Raise InputError if a meta-architecture of fastreid's would leave out a part of WITHOUT."""
    name = cfg.MODEL.META_ARCHITECTURE
    architecture = lookup(META_ARCH, name, "MODEL.META_ARCHITECTURE")
    if architecture.__module__.split(".")[0] != "fastreid":
        return
    for key, without in WITHOUT.items():
        value = cfg
        for part in key.split("."):
            value = value[part]
        if value != without:
            raise InputError(
                f"{key}: {value}, but fastreid's {name} ignores it; expected {without}, "
                "or MODEL.META_ARCHITECTURE VVIBaseline"
            )
