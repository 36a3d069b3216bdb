"""Rendered stand-ins for licensed data sets: walking people, two modalities, one seed.

``settings`` says what is rendered, ``plan`` who walks where, ``identity`` who they are, ``scene``
what the cameras see, ``take`` what happens meanwhile; ``pose``, ``figure`` and ``raster`` draw,
``frame`` records, ``writers`` lay out a data set on disk and ``sheet`` shows it to people.
"""

from plugins.data.synthetic.settings import PRESETS, SyntheticSettings
from plugins.data.synthetic.writers import render_hitsz_vcm

__all__ = ["PRESETS", "SyntheticSettings", "render_hitsz_vcm"]
