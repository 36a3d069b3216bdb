"""Attacks that need no gradient of the attacked model."""
