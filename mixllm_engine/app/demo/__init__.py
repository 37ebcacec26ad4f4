"""``mixllm demo``: a live demonstration of the router in a browser."""
