"""What the benchmarks share: a server, a node of our own, figures and their tables. Not part of the package."""
