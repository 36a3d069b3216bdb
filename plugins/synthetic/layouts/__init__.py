"""Layouts that a rendered data set can have on disk, by name."""

from plugins.synthetic.layouts.bupt_campus import BUPT_CAMPUS
from plugins.synthetic.layouts.hitsz_vcm import HITSZ_VCM
from plugins.synthetic.layouts.market1501 import MARKET1501

LAYOUTS = {layout.name: layout for layout in (HITSZ_VCM, BUPT_CAMPUS, MARKET1501)}

__all__ = ["BUPT_CAMPUS", "HITSZ_VCM", "LAYOUTS", "MARKET1501"]
