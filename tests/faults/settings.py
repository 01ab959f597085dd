"""Settings that make no sense: found before any work, and said once."""
from harness import fault


def refused(t, code: int, *words: str, text: bytes | None = None, path=None, more=(), env=None) -> None:
    t.tries += 1
    t.forget("a")
    file = path or t.folder / "c.toml"
    if text is not None:
        file.write_bytes(text)
    args = ["train", "dense", "--data", str(t.folder / "data"), "--run", str(t.folder / "a"), *more]
    if text is not None or path is not None:
        args += ["--config", str(file)]
    result = t.run(*args, env=env)
    t.code(result, code)
    t.says(result, *words)
    t.check(result.err.count("onpa: ") == 1 and len(result.err) < 1000, "said more than once, or too much:", result.err)
    t.check(not (t.folder / "a").exists(), "a run folder was made")


@fault("a misspelt key, in the file, the environment or --set", "refused before any work, place and nearest key named", "78")
def typo(t):
    t.dense_data()
    refused(t, 78, "c.toml:2:1", "did you mean 'train.epochs'", text=b"[train]\nepohcs = 3\n")
    refused(t, 78, "c.toml:3:3", "did you mean 'train.batch_size'", text=b"[train]\nlr = 0.1\n  batchsize = 8\n")
    refused(t, 78, "did you mean 'train.lr'", more=("--set", "trian.lr=1"))
    refused(t, 78, "ONPA_TRAIN_EPOHCS", "did you mean", env={"ONPA_TRAIN_EPOHCS": "3"})


@fault("a wrong type, a value out of range, lr = nan, a key twice", "refused before any work, line and column named", "78")
def wrong_values(t):
    t.dense_data()
    for line, words in ((b"lr = \"fast\"", "a number"), (b"epochs = 1.5", "a whole number"), (b"batch_size = 0", "1 to"),
                        (b"batch_size = -8", "1 to"), (b"lr = 1e9", "0 to 10"), (b"lr = nan", "train.lr"),
                        (b"lr = inf", "train.lr"), (b"epochs = 99999999999999999999", ""), (b"loss = \"mes\"", "'mse'"),
                        (b"epochs = 2026-01-01", "a date"), (b"epochs = [1]", "[1], want a whole number")):
        refused(t, 78, "c.toml:2:", words, text=b"[train]\n" + line + b"\n")
    refused(t, 78, "c.toml:3:", text=b"[train]\nlr = 0.1\nlr = 0.2\n")
    for value in ("nan", "inf", "-1", "1e999", "", "1,5"):
        refused(t, 78, "train.lr", more=("--set", f"train.lr={value}"))


@fault("a file of settings that is missing", "refused, the path named", "66")
def missing(t):
    t.dense_data()
    refused(t, 66, "absent.toml", path=t.folder / "absent.toml")


@fault("a file of settings that is a folder, not UTF-8, binary, 10 MB of one value or key, 10 MB of comments, or empty",
       "refused with the place (the last two are fine)", "78 (0)")
def strange_files(t):
    t.dense_data()
    folder = t.folder / "folder.toml"
    folder.mkdir()
    refused(t, 78, "folder.toml", path=folder)
    refused(t, 78, "c.toml:2:", text=b"[train]\nloss = \"\xff\xfe\"\n")
    refused(t, 78, "c.toml:1:", text=bytes(range(256)) * 4)
    refused(t, 78, "c.toml:2:", text=b"[train]\nloss = \"" + b"x" * 10_000_000 + b"\"\n")
    refused(t, 78, "c.toml:2:1", text=b"[train]\n" + b"x" * 10_000_000 + b" = 1\n")
    refused(t, 78, "c.toml", text=b"[" * 10_000_000)
    for text in (b"#" + b"x" * 10_000_000 + b"\n", b""):
        t.tries += 1
        t.forget("a")
        (t.folder / "c.toml").write_bytes(text)
        result = t.run(*t.dense("a", "train.epochs=1"), "--config", str(t.folder / "c.toml"))
        t.code(result, 0)


@fault("a run folder that was made on another host, or a data folder that is missing or a file",
       "refused, folder and reason named", "66, 73")
def folders(t):
    t.dense_data()
    t.tries += 1
    result = t.run("train", "dense", "--data", str(t.folder / "none"), "--run", str(t.folder / "a"))
    t.code(result, 66)
    t.tries += 1
    (t.folder / "file").write_text("x")
    result = t.run("train", "dense", "--data", str(t.folder / "file"), "--run", str(t.folder / "a"))
    t.code(result, 66)
    t.tries += 1
    result = t.run("train", "dense", "--data", str(t.folder / "data"), "--run", str(t.folder / "file"))
    t.code(result, 73)
    t.says(result, "file")
