#!/usr/bin/env python3
"""Fails when an include points against the direction apps -> nn, dist, data -> audio -> tensor -> kernels."""
import pathlib
import re
import subprocess
import sys

ALLOWED = {
    "kernels": {"kernels"},
    "tensor": {"tensor", "kernels"},
    "audio": {"audio", "tensor", "kernels"},
    "data": {"data", "audio", "tensor", "kernels"},
    "nn": {"nn", "tensor", "kernels"},
    "dist": {"dist", "tensor", "kernels"},
    "apps": {"apps", "nn", "dist", "data", "audio", "tensor", "kernels"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cpp", "*.cu", "*.cuh"],
        cwd=root, check=True, capture_output=True, text=True).stdout.split()
    bad = 0
    for name in files:
        folder = name.split("/")[0]
        if folder not in ALLOWED:
            continue
        for number, line in enumerate((root / name).read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            target = match[1].split("/")[0] if match else ""
            if target in ALLOWED and target not in ALLOWED[folder]:
                print(f"{name}:{number}: {folder}/ must not include {match[1]}")
                bad += 1
    print(f"include direction: {len(files)} files, {bad} against it")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
