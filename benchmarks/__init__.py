"""Benchmarks: hpjax and its peers in turn, in one run."""
