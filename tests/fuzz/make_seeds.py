#!/usr/bin/env python3
"""Writes the inputs that fuzzing starts from into tests/fuzz/corpus: tables, files of torch.save and their pickles; with
a program, those that onpa itself writes too.

usage: make_seeds.py [build/onpa_fuzz_seeds]
"""
import subprocess
import sys
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CORPUS, GOLDEN, TOOLS = FOLDER / "corpus", FOLDER.parent / "golden", FOLDER.parent.parent / "tools"
LAYOUTS = ("SpotifyFeatures", "dataset", "spotify_data", "tracks", "song_data", "spotify_songs")
TABLES = {"quotes": b'a,b\n"1,2","x""y"\n\n3,"line\nbreak"', "bom": b"\xef\xbb\xbf,b\r\n1,2\r\n", "ragged": b"a,b\n1\n"}


def write(target: str, name: str, data: bytes) -> None:
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    (CORPUS / target / name).write_bytes(data)


def main() -> int:
    for layout in LAYOUTS:
        made = subprocess.run([sys.executable, TOOLS / "make_table.py", layout, "3"], check=True, capture_output=True)
        write("csv", layout + ".csv", made.stdout)
    for name, data in TABLES.items():
        write("csv", name + ".csv", data)
    for path in sorted([*GOLDEN.glob("torch_*.pt"), *GOLDEN.glob("torch_*.ckpt")]):
        write("torch_file", path.name, path.read_bytes())
        if not zipfile.is_zipfile(path):
            continue
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if entry.endswith("data.pkl"):
                    write("pickle", path.stem + ".pkl", archive.read(entry))
    return subprocess.run([sys.argv[1], CORPUS]).returncode if len(sys.argv) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
