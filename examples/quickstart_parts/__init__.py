"""The three parts of the quickstart."""
