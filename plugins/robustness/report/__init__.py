"""Reports: a card (JSON), its Markdown, a page of HTML, and pages of several cards."""

from plugins.robustness.report.card import make_card, read_card, write_card
from plugins.robustness.report.comparison import compare
from plugins.robustness.report.in_python import robustness_report
from plugins.robustness.report.leaderboard import Entry, leaderboard_page
from plugins.robustness.report.write import write_reports

__all__ = [
    "Entry",
    "compare",
    "leaderboard_page",
    "make_card",
    "read_card",
    "robustness_report",
    "write_card",
    "write_reports",
]
