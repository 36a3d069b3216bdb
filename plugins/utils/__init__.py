"""Helpers that belong to no room: pictures."""

from plugins.utils.pictures import HOW_CHOSEN, RankedRow, choose_queries, draw_ranked_clips

__all__ = ["HOW_CHOSEN", "RankedRow", "choose_queries", "draw_ranked_clips"]
