"""Context -> expected quality, response length, cost and uncertainty of every candidate."""
