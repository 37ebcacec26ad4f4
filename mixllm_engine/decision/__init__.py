"""Scores -> choice. Pure functions and small states: no torch, no I/O, no clock."""
