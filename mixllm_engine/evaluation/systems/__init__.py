"""Whole routing systems, one small file each: those that the paper compares, later ones, and simple yardsticks."""
