"""Training: the loop, the trainer around it, and what an exact resume needs."""
