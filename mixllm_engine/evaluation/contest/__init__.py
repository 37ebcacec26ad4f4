"""Every system on the same queries, with the same embeddings and costs, with and without load."""
