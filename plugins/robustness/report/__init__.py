"""Reports: a card (JSON), its Markdown, and one page of HTML with pictures."""

from plugins.robustness.report.card import make_card, read_card, write_card
from plugins.robustness.report.comparison import compare
from plugins.robustness.report.write import write_reports

__all__ = ["compare", "make_card", "read_card", "write_card", "write_reports"]
