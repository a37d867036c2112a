#!/usr/bin/env bash
# Builds, tests and measures fastcore on the GPU of this machine, in under 9 minutes and without a network.
#
#   benchmarks/run_gpu.sh                         everything, into $OUT or benchmarks/results/gpu
#   benchmarks/run_gpu.sh --cases k_center,cal    some cases; --help says what else there is
#   benchmarks/run_gpu.sh --device cpu --quick    the same steps at tiny sizes without a GPU: does the script work?
#
# Needs Python with torch (2.11 or newer, built for CUDA), numpy, ninja, nvcc and g++. compute-sanitizer, pytest and the
# peers (torch-fps, triton-submodular) take part where they are installed; without pytest the op table and the contract
# of the methods run all the same. Nothing is installed: the package is used from this folder. PYTHON names the
# interpreter, FASTCORE_COMMIT the commit where this folder is no git repository.
# gpu.csv has every row of a whole run; what was not measured has no value and a note why.
# Exit status: 0 all is well, however slow, where time or memory ends too; 1 the library did not build, a test or
# compute-sanitizer found an error, a case of ours failed, or picks are wrong.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
cd "$root" || exit 1
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export FASTCORE_CACHE=${FASTCORE_CACHE:-$root/build/gpu-cache}
umask 022
exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
