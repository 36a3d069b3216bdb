"""Kills, damage, hostile inputs, full disks and lost processes, in numbers; ``make soak``.

Each module has one function that takes how much of it there should be and a random generator, and
returns figures. ``tests/soak/test_short.py`` runs a short form of some.
"""
