"""Benchmarks: timing, workloads, cost, published figures."""
