"""Frames decoded and resized once, for all runs at one input size."""
