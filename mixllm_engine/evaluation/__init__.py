"""How good a policy is, or would have been: measured on logs."""
