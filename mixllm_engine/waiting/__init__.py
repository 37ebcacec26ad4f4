"""How long a candidate lets one wait, and whether it may be called at all just now."""
