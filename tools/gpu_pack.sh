#!/usr/bin/env bash
# gpu_pack.sh BUILD PACK: copies the GPU tests and benchmarks of a build folder, and the libraries that
# they need beside libc, cudart (linked in), cuBLASLt and cuFFT, into the folder PACK, which runs
# anywhere with an NVIDIA driver, CUDA 13's cuBLASLt, Python 3 and, for one way to a mel spectrogram,
# cuFFT 12 (PACK/run), and packs it as PACK/onpa-gpu.tar.gz.
set -euo pipefail
build=$1 pack=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
limit_mib=64

rm -rf "$pack"
mkdir -p "$pack/bin" "$pack/lib/compiler"
for program in "$build"/test_*_gpu "$build"/bench_cuda_*; do
  strip -o "$pack/bin/$(basename "$program")" "$program"
done
# What the C library's own package brings stays out: it must fit the machine's kernel and loader.
ldd "$pack"/bin/* | awk '/=> \//{print $3}' | sort -u |
  grep -Ev '/(libc|libm|libdl|librt|libpthread|ld-linux-x86-64|libcublasLt)\.so' | while read -r library; do
    folder=$pack/lib
    case $library in */libstdc++.so* | */libgcc_s.so*) folder=$pack/lib/compiler ;; esac
    strip -o "$folder/$(basename "$library")" "$library"
  done
cp "$root"/bench/{gpu.py,run.py,compare_torch.py} "$pack/"
commit=$(git -C "$root" rev-parse --short=12 HEAD)
[ -z "$(git -C "$root" status --porcelain -- ':!bench/results')" ] || commit+=-dirty
echo "$commit" >"$pack/commit"
cat >"$pack/run" <<'END'
#!/bin/sh
# Runs the tests and benchmarks on this machine's GPU; results go to results/ beside this file.
cd "$(dirname "$0")" || exit 74
command -v python3 >/dev/null || { echo "run: python3 is missing; install it" >&2; exit 69; }
exec python3 gpu.py --bin bin --out results --commit "$(cat commit)" "$@"
END
chmod +x "$pack/run"
tar -C "$(dirname "$pack")" -czf "$pack.part" "$(basename "$pack")"
mv "$pack.part" "$pack/onpa-gpu.tar.gz"
size_mib=$(($(stat -c %s "$pack/onpa-gpu.tar.gz") / 1048576 + 1))
[ "$size_mib" -lt "$limit_mib" ] || { echo "gpu_pack: $size_mib MiB, over $limit_mib" >&2; exit 73; }
echo "gpu_pack: $pack/onpa-gpu.tar.gz, $size_mib MiB. On the GPU machine unpack it and start $(basename "$pack")/run;" \
  "then copy its results/* to bench/results/ and run tools/gpu_table.py"
