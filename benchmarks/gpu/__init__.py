"""The tests and measurements of one GPU: `benchmarks/run_gpu.sh`. It runs on a machine with little but torch."""

from benchmarks.gpu import standins

standins.install()  # before anything that imports what may be missing
