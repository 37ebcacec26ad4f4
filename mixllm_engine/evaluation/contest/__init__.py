"""Every system on the same queries, with the same features and costs, with and without load."""
