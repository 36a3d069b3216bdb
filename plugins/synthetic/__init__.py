"""Render stand-ins for licensed data sets: walking people, two modalities, one seed.

``settings`` says what is rendered, ``plan`` who walks where, ``identity`` who they are,
``likeness`` how alike they are, ``scene`` what the cameras see, ``take`` what happens meanwhile;
``pose``, ``figure`` and ``raster`` draw, ``frame`` records, ``writers`` and ``layouts`` put a data
set on disk and ``sheet`` shows it to people. ``oracle`` measures how well walks can be told apart.
"""

from functools import partial

from plugins.synthetic.layouts import BUPT_CAMPUS, HITSZ_VCM, LAYOUTS, MARKET1501
from plugins.synthetic.settings import PRESETS, SyntheticSettings
from plugins.synthetic.writers import render_layout

__all__ = [
    "BUPT_CAMPUS",
    "HITSZ_VCM",
    "LAYOUTS",
    "MARKET1501",
    "PRESETS",
    "SyntheticSettings",
    "render_hitsz_vcm",
    "render_layout",
]

# The default layout.
render_hitsz_vcm = partial(render_layout, HITSZ_VCM)
