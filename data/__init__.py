"""Images: finding, checking, splitting, decoding and loading them."""
