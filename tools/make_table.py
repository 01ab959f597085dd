#!/usr/bin/env python3
"""A made-up table of tracks in the layout of a public one, to stdout.

    tools/make_table.py LAYOUT ROWS [--seed N] [--clean] > table.csv

LAYOUT is the file name of the public table without its ending:
    SpotifyFeatures  genre first; byte order mark, CRLF, key as a note, mode as Major or Minor, 4/4
    dataset          a row index without a header, artists joined by ';', a row a track and genre
    spotify_data     a row index without a header, year and genre
    tracks           artists as a list in brackets, release date, no genre
    song_data        prefixed names (song_popularity, audio_mode), no ids, rows that repeat
    spotify_songs    track_popularity, track_artist, playlist_genre

The popularity of a track is an effect of its features, one of its artist and noise. About one row in
four repeats a track (under another genre where there are genres). Without --clean, one row in 500
has a cell that is missing or out of range. Names hold commas, quotes and newlines.
"""
import argparse
import random
import sys

GENRES = ["acoustic", "alt-rock", "ambient", "blues", "classical", "club", "edm", "folk", "grindcore", "hip-hop",
          "honky-tonk", "jazz", "k-pop", "metal", "opera", "r-n-b", "reggae", "soul", "techno", "world-music"]
NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

FEATURES = {
    "SpotifyFeatures": "acousticness danceability duration_ms energy instrumentalness key liveness loudness mode "
                       "speechiness tempo time_signature valence",
    "dataset": "danceability energy key loudness mode speechiness acousticness instrumentalness liveness valence tempo "
               "time_signature",
    "spotify_data": "danceability energy key loudness mode speechiness acousticness instrumentalness liveness valence "
                    "tempo duration_ms time_signature",
    "tracks": "danceability energy key loudness mode speechiness acousticness instrumentalness liveness valence tempo "
              "time_signature",
    "song_data": "acousticness danceability energy instrumentalness key liveness loudness mode speechiness tempo "
                 "time_signature valence",
    "spotify_songs": "danceability energy key loudness mode speechiness acousticness instrumentalness liveness valence "
                     "tempo duration_ms",
}
BEFORE = {
    "SpotifyFeatures": "genre artist_name track_name track_id popularity",
    "dataset": " track_id artists album_name track_name popularity duration_ms explicit",
    "spotify_data": " artist_name track_name track_id popularity year genre",
    "tracks": "id name popularity duration_ms explicit artists id_artists release_date",
    "song_data": "song_name song_popularity song_duration_ms",
    "spotify_songs": "track_id track_name track_artist track_popularity track_album_id track_album_name "
                     "track_album_release_date playlist_name playlist_id playlist_genre playlist_subgenre",
}
PREFIXED = {"mode": "audio_mode", "valence": "audio_valence"}  # of song_data


def quoted(text):
    if any(c in text for c in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def make_track(rng, number, artists):
    f = {name: rng.random() for name in ("danceability", "energy", "speechiness", "acousticness", "liveness", "valence")}
    f["instrumentalness"] = rng.random() ** 4
    f["loudness"] = -30 * (1 - f["energy"]) * rng.random() - 2
    f["tempo"] = 60 + 140 * rng.random()
    f["key"] = rng.randrange(12)
    f["mode"] = int(rng.random() < 0.6)
    f["time_signature"] = 4 if rng.random() < 0.9 else 3
    f["duration_ms"] = rng.randrange(60_000, 400_000)
    first = rng.randrange(artists)
    who = [first] if rng.random() < 0.9 else [first, rng.randrange(artists)]
    # Of the artist's number alone, so that it is an effect of the artist.
    effect = (first * 7919 % 101) / 100 - 0.5
    popularity = 38 + 20 * (f["danceability"] - 0.5) + 14 * (f["energy"] - 0.5) + 30 * effect + rng.gauss(0, 8)
    names = [f"Artist {n}" if n % 9 else f'The "{n}", Band' for n in who]
    return {
        "id": "".join(rng.choices(LETTERS, k=16)) + f"{number:06d}"[-6:],
        "artists": names,
        "name": f'Song {number}, part "b"' if number % 7 == 0 else f"Song {number}\nlive" if number % 50 == 0 else f"Song {number}",
        "popularity": 0 if rng.random() < 0.08 else min(100, max(0, round(popularity))),
        "year": 1990 + number % 34,
        "f": f,
    }


def spoil(rng, cells, features_at):
    """Makes one cell of a row unusable."""
    at = rng.choice(features_at)
    cells[at] = rng.choice(["", "nan", "7777777777", "x"])


def feature_cells(layout, f):
    cells = []
    for name in FEATURES[layout].split():
        value = f[name]
        if layout == "SpotifyFeatures" and name == "key":
            cells.append(NOTES[value])
        elif layout == "SpotifyFeatures" and name == "mode":
            cells.append("Major" if value else "Minor")
        elif layout == "SpotifyFeatures" and name == "time_signature":
            cells.append(f"{value}/4")
        else:
            cells.append(str(value) if isinstance(value, int) else f"{value:.6g}")
    return cells


def row_cells(layout, t, genre, line):
    name, popularity = quoted(t["name"]), str(t["popularity"])
    duration, who = str(t["f"]["duration_ms"]), t["artists"]
    features = feature_cells(layout, t["f"])
    if layout == "SpotifyFeatures":
        return [genre, quoted(who[0]), name, t["id"], popularity] + features
    if layout == "dataset":
        return [str(line), t["id"], quoted(";".join(who)), "Album", name, popularity, duration,
                "False"] + features + [genre]
    if layout == "spotify_data":
        return [str(line), quoted(who[0]), name, t["id"], popularity, str(t["year"]), genre] + features
    if layout == "tracks":
        return [t["id"], name, popularity, duration, "0", quoted(str(who)), "['x']", f"{t['year']}-01-01"] + features
    if layout == "song_data":
        return [name, popularity, duration] + features
    return [t["id"], name, quoted(who[0]), popularity, "album", "Album", f"{t['year']}-01-01", "list", "list", genre,
            "sub"] + features


def header(layout):
    features = FEATURES[layout].split()
    if layout == "song_data":
        features = [PREFIXED.get(name, name) for name in features]
    after = ["track_genre"] if layout == "dataset" else []
    return BEFORE[layout].split(" ") + features + after


def write(layout, rows, seed, clean, out):
    rng = random.Random(seed)
    end = "\r\n" if layout == "SpotifyFeatures" else "\n"
    if layout == "SpotifyFeatures":
        out.write("\ufeff")
    head = header(layout)
    first_feature = head.index("mode" if layout != "song_data" else "audio_mode")
    spoilable = [first_feature, head.index("energy"), head.index("danceability")]
    out.write(",".join(head) + end)
    artists = max(10, rows // 20)
    recent = []  # what may recur
    for line in range(rows):
        if recent and rng.random() < 0.25:
            track = recent[rng.randrange(len(recent))]
        else:
            track = make_track(rng, line, artists)
            if len(recent) < 1000:
                recent.append(track)
            else:
                recent[rng.randrange(1000)] = track
        cells = row_cells(layout, track, GENRES[rng.randrange(len(GENRES))], line)
        if not clean and line % 500 == 499:
            spoil(rng, cells, spoilable)
        out.write(",".join(cells) + end)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", choices=sorted(FEATURES))
    parser.add_argument("rows", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clean", action="store_true")
    args = parser.parse_args()
    with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="", closefd=False) as out:
        write(args.layout, args.rows, args.seed, args.clean, out)


if __name__ == "__main__":
    main()
