"""Evaluation: metrics of both tasks, reports, calibration."""
