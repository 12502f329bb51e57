"""Inference: from pictures to records and result files."""
