"""Audio files and tables that are not what they should be."""
import os

from harness import Skipped, fault, last_step


def listed(t, run: str) -> list[str]:
    return sorted(line.split(",")[0] for line in (t.folder / run / "bad_tracks.csv").read_text().splitlines()[1:])


def spoil(t, clip: str) -> None:
    path = t.folder / "clips_audio" / f"{clip}.mp3"
    path.unlink()  # others may share its content
    path.write_bytes(b"<html>404</html>")


@fault("0.05 % of 2000 mp3s are bad", "left out, counted and listed; every other one is used", "0", fast=False)
def one_of_2000(t):
    t.audio_data(count=2000, distinct=20)
    spoil(t, "clip7")
    t.tries += 1
    result = t.run(*t.passt("a", "train.max_steps=0", "train.epochs=1", "train.batch_size=64", "train.checkpoint_steps=0"))
    t.code(result, 0)
    t.check(listed(t, "a") == ["clip7"], listed(t, "a"))
    t.check(last_step(t.folder / "a") == 25, last_step(t.folder / "a"))  # 1599 tracks


@fault("1 % of the mp3s are bad, and 1 % are allowed", "left out, counted and listed", "0", fast=False)
def as_many_as_allowed(t):
    t.audio_data(count=500, distinct=20)
    bad = [f"clip{i}" for i in (0, 101, 202, 303)]  # of 400 train tracks
    for clip in bad:
        spoil(t, clip)
    t.tries += 1
    result = t.run(*t.passt("a", "train.max_steps=0", "train.epochs=1", "train.checkpoint_steps=0"))
    t.code(result, 0)
    t.check(listed(t, "a") == sorted(bad), listed(t, "a"))


@fault("all mp3s are bad", "stops with counts and the first reasons", "65")
def all_bad(t):
    t.audio_data()
    for i in range(40):
        spoil(t, f"clip{i}")
    t.tries += 1
    result = t.run(*t.passt("a"))
    t.code(result, 65)
    t.says(result, "tracks cannot be used, more than the allowed 1 %", ".mp3")
    t.clean("a")


@fault("a file is deleted in the middle of an epoch", "left out and listed, the run goes on; too many: stops with a "
       "checkpoint", "0 or 65")
def deleted(t):
    for allowed, code in (("0.2", 0), ("0.01", 65)):
        t.audio_data()
        t.forget("a")
        job = t.start(*t.passt("a", "train.max_steps=0", "train.epochs=60", f"data.max_bad_fraction={allowed}",
                               "loader.prefetch_batches=1"))
        job.wait_for("step 3/")
        for clip in ("clip2", "clip5", "clip8"):
            (t.folder / "clips_audio" / f"{clip}.mp3").unlink()
        result = t.end(job)
        t.tries += 1
        t.code(result, code)
        names = listed(t, "a")
        t.check(names and set(names) <= {"clip2", "clip5", "clip8"}, names)
        t.check(last_step(t.folder / "a") >= 3, "no checkpoint of the steps before")


@fault("a file may not be read (permission denied)", "left out, counted and listed with the reason", "0")
def permission_denied(t):
    t.audio_data()
    preexec = None
    if os.getuid() == 0:  # who may read everything
        os.chmod(t.folder, 0o777)
        nobody = 65534
        if not os.access(os.path.dirname(t.tools.onpa), os.X_OK) or os.stat("/").st_uid != 0:
            raise Skipped("no way to give up root's rights here")
        preexec = lambda: (os.setgroups([]), os.setgid(nobody), os.setuid(nobody))
        probe = t.start("--version", preexec=preexec)
        if t.end(probe).code != 0:
            raise Skipped("another user cannot run the command from where it lies")
    for clip in ("clip3", "clip13"):
        (t.folder / "clips_audio" / f"{clip}.mp3").chmod(0)
    t.tries += 1
    result = t.run(*t.passt("a", "data.max_bad_fraction=0.1"), preexec=preexec)
    t.code(result, 0)
    text = (t.folder / "a/bad_tracks.csv").read_text()
    t.check(listed(t, "a") == ["clip13", "clip3"] and text.count("Permission denied") == 2, text)


def rows(count: int, popularity=lambda i: 20 + i % 40, split=lambda i: "test" if i % 5 == 4 else "train", genre="g"):
    return ["id,audio,genre,popularity,split,kept,a,b"] + [
        f"t{i},,{genre},{popularity(i)},{split(i)},1,{i % 7},{i % 3}.5" for i in range(count)]


@fault("a count of rows that no batch divides, one row, fewer rows than a batch, no test rows, one genre, all targets "
       "equal, constant features", "trains and evaluates; finite weights", "0")
def degenerate_tables(t):
    tables = {"prime": rows(331), "one": rows(1, split=lambda i: "train"), "three": rows(3, split=lambda i: "train"),
              "no_test": rows(50, split=lambda i: "train"), "equal": rows(60, popularity=lambda i: 37),
              "constant": [line if i == 0 else ",".join(line.split(",")[:6] + ["3", "3"])
                           for i, line in enumerate(rows(60))]}
    for name, lines in tables.items():
        t.tries += 1
        t.write_data(name, lines, "", ["a", "b"])
        result = t.run(*t.dense(f"run_{name}", "train.epochs=2", data=name))
        t.code(result, 0)
        found = t.run_tool("find", text=f"{t.folder / f'run_{name}' / 'checkpoints'}\n").stdout.split()
        t.check(int(found[0]) > 0, name, found)
        t.clean(f"run_{name}")


@fault("no rows, no train rows, no rows with audio", "refused with the reason", "65")
def empty_tables(t):
    t.audio_data()
    for name, lines in {"none": rows(0), "only_test": rows(9, split=lambda i: "test")}.items():
        t.tries += 1
        t.write_data(name, lines, "", ["a", "b"])
        result = t.run(*t.dense(f"run_{name}", data=name))
        t.code(result, 65)
        t.check("onpa: " in result.err)
    t.tries += 1
    t.write_data("silent", rows(20), "", ["a", "b"])
    result = t.run(*t.passt("run_silent", data="silent"))
    t.code(result, 65)


@fault("a cell of a data set holds NaN, infinity, 1e999, `1,5`, nothing, text, or an id that was there before",
       "refused, line, column and cell named", "65")
def bad_cells(t):
    for column, cell, words in ((6, "nan", "column a"), (6, "inf", "column a"), (6, "-inf", "column a"),
                                (7, "1e999", "column b"), (6, "1e39", "column a"), (7, "", "column b"),
                                (7, "loud", "column b"), (3, "nan", "column popularity"),
                                (3, "101", "column popularity"), (3, "", "column popularity"),
                                (6, '"1,5"', "column a"), (0, "t3", "column id"), (0, "", "column id"),
                                (4, "dev", "column split")):
        lines = rows(40)
        cells = lines[21].split(",")
        cells[column] = cell
        lines[21] = ",".join(cells)
        t.write_data("bad", lines, "", ["a", "b"])
        t.tries += 1
        result = t.run(*t.dense("a", data="bad"))
        t.code(result, 65)
        t.says(result, "tracks.csv:22: " + words, cell.strip('"'))
    lines = rows(40)
    lines[21] += ",5"  # an unquoted 1,5 is a column too many
    t.write_data("bad", lines, "", ["a", "b"])
    t.tries += 1
    result = t.run(*t.dense("a", data="bad"))
    t.code(result, 65)
    t.says(result, "tracks.csv:22")


@fault("cells of a table given to `onpa prepare` are NaN, infinite, empty, 1e999, `1,5`, or ids come twice",
       "the rows are dropped and counted by reason, the first of a doubled id counts", "0")
def prepared_cells(t):
    lines = ["track_id,popularity,energy,tempo"] + [f"g{i},{i % 90},0.5,120" for i in range(60)]
    lines += ["b0,50,nan,120", "b1,50,inf,120", "b2,50,,120", "b3,50,1e999,120", 'b4,50,"1,5",120', "g7,3,0.1,90"]
    (t.folder / "tracks.csv").write_text("\n".join(lines) + "\n")
    t.tries += 6
    result = t.run("prepare", "--csv", str(t.folder / "tracks.csv"), "--out", str(t.folder / "data"),
                   "--features", "energy,tempo")
    t.code(result, 0)
    kept = (t.folder / "data/tracks.csv").read_text()
    t.check(kept.count("\n") == 61 and ",b" not in kept and "\nb" not in kept, kept)
    result = t.run(*t.dense("a", "train.epochs=1"))
    t.code(result, 0)
