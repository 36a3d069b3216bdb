"""Keep frames that are decoded and resized once, for all runs at one input size."""
