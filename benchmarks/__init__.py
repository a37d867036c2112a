"""Measurements of fastcore beside other libraries: `python -m benchmarks`. Not part of the package."""
