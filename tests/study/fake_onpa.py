"""Stands in for `onpa train`: what it writes, and how it ends, follows from the settings."""
import fcntl
import json
import os
import pathlib
import signal
import sys
import time
import tomllib

arguments = sys.argv[1:]
assert arguments[0] == "train", arguments
options: dict[str, str] = {}
settings: dict[str, object] = {}
position = 2
texts = []
while position < len(arguments):
    word = arguments[position]
    if word == "--quiet":
        position += 1
        continue
    value = arguments[position + 1]
    if word == "--set":
        texts.append(value)
    else:
        options[word] = value
    position += 2
if "--config" in options:
    with open(options["--config"], "rb") as file:
        settings |= {f"{s}.{k}": v for s, keys in tomllib.load(file).items() for k, v in keys.items()}
for text in texts:
    key, _, value = text.partition("=")
    try:
        settings[key] = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        settings[key] = value
run = pathlib.Path(options["--run"])
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
# As onpa does: one process at a time, and one that was told to stop ends before another goes on.
lock = (run / "lock").open("a")
fcntl.flock(lock, fcntl.LOCK_EX)
with (run.parent / "starts").open("a") as file:
    file.write(json.dumps({"pid": os.getpid(), "threads": os.environ.get("ONPA_THREADS"), "settings": settings}) + "\n")


def toml_text(value):
    return json.dumps(value) if not isinstance(value, float) else repr(value)


sections: dict[str, list[str]] = {}
for key, value in ({"train.epochs": 4, "train.lr": 1e-3, "model.kind": arguments[1]} | settings).items():
    sections.setdefault(key.split(".")[0], []).append(f"{key.split('.')[1]} = {toml_text(value)}\n")
(run / "config.resolved.toml").write_text("".join(f"[{s}]\n{''.join(lines)}" for s, lines in sections.items()))

rate = float(settings.get("train.lr", 1e-3))
epochs = int(settings.get("train.epochs", 4))
state = run / "epoch"
epoch = int(state.read_text()) if state.exists() else 0
stopped = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda n, f: stopped.append(n))


def end(status, code, error=None):
    report = {"status": status, "exit_code": code, "step": 10 * epoch, "epoch": epoch, "evaluated": "validation",
              "rmse": error, "mae": None if error is None else 0.8 * error, "parameters": 7}
    pathlib.Path(options["--report-json"]).write_text(json.dumps(report))
    sys.exit(code)


assert settings["data.validation"] == 0.2, settings
if rate in (0.011, 0.012, 0.013, 0.014):
    code = {0.011: 80, 0.012: 65, 0.013: 78, 0.014: 81}[rate]
    sys.stderr.write(f"onpa: planted end {code}\n")
    end("failed", code)
while epoch < epochs:
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    if stopped:
        end("stopped", 75)
    epoch += 1
    state.write_text(str(epoch))
    # Lowest at a rate of 1e-3, falling with the epochs.
    error = 0.1 + abs(rate - 1e-3) + 0.01 * (epochs - epoch)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 10 * epoch, "epoch": epoch, "validation_rmse": error,
                               "validation_mae": 0.8 * error}) + "\n")
end("done", 0, error)
