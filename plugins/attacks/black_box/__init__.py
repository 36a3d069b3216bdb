"""Attacks by decisions or transfer, which need no gradient of the attacked model."""
