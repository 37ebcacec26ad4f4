"""How the router gets wiser: offline from tables of outcomes, online from the log."""
