"""PNG drawings: plots, contact sheets, maps."""
