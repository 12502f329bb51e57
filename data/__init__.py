"""Pictures on their way in: decoded, checked, split, listed and loaded."""
