"""Text -> embedding -> context vector."""
