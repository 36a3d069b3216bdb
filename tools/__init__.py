"""The commands: parsers and printing; what they do is in ``plugins``."""
