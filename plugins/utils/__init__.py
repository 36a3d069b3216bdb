"""Provide files, locks and pictures to all rooms, and import none of them."""
