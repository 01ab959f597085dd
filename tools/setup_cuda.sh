#!/usr/bin/env bash
# setup_cuda.sh FOLDER: makes a CUDA toolkit in FOLDER from the wheels that cuda_wheels.txt pins, laid
# out as the CMake files look for one: bin/nvcc, nvvm/, include/, lib64/ with unversioned library names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1

if [ -e "$folder/cuda_wheels.txt" ] && cmp -s "$here/cuda_wheels.txt" "$folder/cuda_wheels.txt"; then
  echo "setup_cuda: $folder is up to date" >&2
  exit 0
fi
if [ -e "$folder" ] && [ ! -e "$folder/cuda_wheels.txt" ]; then
  echo "setup_cuda: $folder exists and is not of my making; move it away or set ONPA_CUDA_HOME" >&2
  exit 73
fi
free_mib=$(($(stat -f -c '%a * %S / 1048576' "$(p=$folder; while [ ! -e "$p" ]; do p=$(dirname "$p"); done; echo "$p")")))
if [ "$free_mib" -lt 6000 ]; then
  echo "setup_cuda: about 6 GB are needed (3 stay), $free_mib MiB are free for $folder" >&2
  exit 73
fi

echo "setup_cuda: fetching 1.3 GB into $folder" >&2
mkdir -p "$(dirname "$folder")"
part=$(mktemp -d "$folder.part.XXXXXX")
trap 'rm -rf "$part"' EXIT
TMPDIR=$part python3 -m pip install --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
  --only-binary=:all: --require-hashes --target "$part/site" -r "$here/cuda_wheels.txt" >&2
root=$part/site/nvidia/cu13
for extra in cudnn nccl; do
  cp -r "$part/site/nvidia/$extra/include/." "$root/include/"
  mv "$part/site/nvidia/$extra/lib/"*.so* "$root/lib/"
done
chmod +x "$root"/bin/* "$root"/nvvm/bin/*
ln -s lib "$root/lib64"
for library in "$root"/lib/lib*.so.*; do
  ln -sf "$(basename "$library")" "${library%%.so.*}.so"
done
"$root/bin/nvcc" --version | tail -1 >&2
cp "$here/cuda_wheels.txt" "$root/"
rm -rf "$folder"
mv "$root" "$folder"
echo "setup_cuda: $folder is ready" >&2
