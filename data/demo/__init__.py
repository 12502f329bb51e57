"""Generated artists to try the toolkit on."""
