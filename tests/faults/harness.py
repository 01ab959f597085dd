"""What the tests of faults share: the command in a folder of its own, small data sets, comparisons of runs.

A test is a function marked @fault(...); it gets a Test, counts each fault that it provoked in Test.tries and
raises Failed (by Test.check) if the outcome is not the one that the mark states.
"""
import json
import math
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TIME_LIMIT_SECONDS = 60  # of one command; none of them takes a tenth of that alone


class Failed(Exception):
    """The outcome was not the one that was promised."""


class Skipped(Exception):
    """This machine cannot provoke the fault."""


@dataclass
class Fault:
    """One row of the table."""
    name: str
    group: str
    title: str
    outcome: str
    code: str
    body: object
    fast: bool = True  # part of the fast subset
    needs: tuple = ()  # of "shim", "mpirun", "faketime", "sim"


REGISTRY: list[Fault] = []


def fault(title: str, outcome: str, code: str, fast: bool = True, needs: tuple = ()):
    def register(body):
        group = body.__module__
        REGISTRY.append(Fault(f"{group}.{body.__name__}", group, title, outcome, code, body, fast, needs))
        return body
    return register


@dataclass
class Tools:
    onpa: str
    tool: str = ""
    shim: str = ""
    mpirun: str = ""
    faketime: str = ""
    sim: str = ""  # the command on a simulated GPU


@dataclass
class Result:
    code: int  # 128 + number for a signal
    out: str
    err: str
    seconds: float


class Job:
    """A running command. It and all that it starts carry a mark in their environment."""

    def __init__(self, words, env, mark, stdout=None, stderr=None, preexec=None):
        self.mark = mark
        self.out_file = tempfile.TemporaryFile() if stdout is None else stdout
        self.err_file = tempfile.TemporaryFile() if stderr is None else stderr
        self.readable = stderr is None
        self.begin = time.monotonic()
        self.process = subprocess.Popen([str(w) for w in words], env=dict(env, ONPA_TEST_JOB=mark),
                                        stdin=subprocess.DEVNULL, stdout=self.out_file, stderr=self.err_file,
                                        preexec_fn=preexec, start_new_session=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        if not self.readable:
            return ""
        size = os.fstat(self.err_file.fileno()).st_size
        return os.pread(self.err_file.fileno(), size, 0).decode(errors="replace")

    def wait_for(self, text: str, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while text not in self.said():
            if self.process.poll() is not None and text not in self.said():
                raise Failed(f"it ended without \"{text}\":\n{self.said()}")
            if time.monotonic() > until:
                self.kill()
                raise Failed(f"no \"{text}\" in {seconds} s:\n{self.said()}")
            time.sleep(0.002)

    def wait_until_it_catches(self, number: int) -> None:
        """Until the process has a handler for a signal: before that it could only die of it."""
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                status = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
            if caught >> (number - 1) & 1:
                return
            time.sleep(0.001)

    def send(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        for pid in processes_of(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def wait(self, seconds: float = TIME_LIMIT_SECONDS) -> Result:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"it hangs: no end after {seconds} s; it said:\n{self.said()[-2000:]}") from None
        seconds_taken = time.monotonic() - self.begin
        texts = []
        for file in (self.out_file, self.err_file):
            try:
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            except (OSError, ValueError, AttributeError):
                texts.append("")
        return Result(code if code >= 0 else 128 - code, *texts, seconds_taken)


def processes_of(mark: str) -> list[int]:
    """Processes with the mark in their environment that are alive."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if f"ONPA_TEST_JOB={mark}".encode() not in environ.read().split(b"\0"):
                    continue
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(int(pid))
        except OSError:
            pass
    return found


def clean_environment() -> dict:
    drop = ("ONPA_", "OMPI_", "PMIX_", "SLURM_", "LD_PRELOAD")
    return {k: v for k, v in os.environ.items() if not k.startswith(drop)}


def temporaries(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(".tmp-*"))


# Of a line of metrics: what the clock and the machine's load decide.
TIMING = ("wall", "clips_per_second", "data_wait", "memory_bytes", "train_seconds")


def metrics(run: Path) -> list[dict]:
    text = (run / "metrics.jsonl").read_text()
    if text and not text.endswith("\n"):
        raise Failed(f"{run}: metrics.jsonl ends in half a line")
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in text.splitlines()]


def last_step(run: Path) -> int:
    """Of the newest checkpoint, by its name; 0 if there is none."""
    names = [p.name for p in (run / "checkpoints").glob("step_*") if p.is_dir()]
    return max((int(name[5:]) for name in names), default=0)


@dataclass
class Test:
    tools: Tools
    exhaustive: bool
    folder: Path
    rng: random.Random
    tries: int = 0
    counter: int = field(default=0)

    # Checks

    def check(self, good, *words) -> None:
        if not good:
            raise Failed(" ".join(str(w) for w in words))

    def says(self, result: Result, *texts: str) -> None:
        for text in texts:
            self.check(text in result.err, f"not said: \"{text}\"; code {result.code}; it said:\n{result.err[-1500:]}")

    def code(self, result: Result, *want: int) -> None:
        self.check(result.code in want, f"exit code {result.code}, want {want}; it said:\n{result.err[-1500:]}")

    # Running

    def start(self, *args, env=None, prefix=(), program="", **more) -> Job:
        self.counter += 1
        mark = f"{os.getpid()}_{self.counter}_{self.folder.name}_end"
        environment = dict(clean_environment(), ONPA_THREADS="1")
        environment.update(env or {})
        return Job([*prefix, program or self.tools.onpa, *args], environment, mark, **more)

    def end(self, job: Job, seconds: float = TIME_LIMIT_SECONDS, grace: float = 5) -> Result:
        """Waits for the end of a job, and for that of all its processes."""
        result = job.wait(seconds)
        until = time.monotonic() + grace
        while left := processes_of(job.mark):
            if time.monotonic() > until:
                job.kill()
                raise Failed(f"left over {grace} s after the end: processes {left}; it said:\n{result.err}")
            time.sleep(0.02)
        return result

    def run(self, *args, env=None, **more) -> Result:
        return self.end(self.start(*args, env=env, **more))

    # Data and runs

    def dense_data(self, name: str = "data", count: int = 400, seed: int = 7) -> Path:
        """Four features that explain most of the target; every fifth row is for tests."""
        rng = random.Random(seed)
        lines = ["id,audio,genre,popularity,split,kept,a,b,c,d"]
        for i in range(count):
            x = [rng.gauss(0, 1) for _ in range(4)]
            popularity = min(100, max(0, 50 + 20 * math.tanh(x[0]) + rng.gauss(0, 1)))
            cells = [f"track{i}", "", "even" if i % 2 == 0 else "odd", f"{popularity:.6f}",
                     "test" if i % 5 == 4 else "train", "1", *(f"{v:.6f}" for v in x)]
            lines.append(",".join(cells))
        return self.write_data(name, lines, "", ["a", "b", "c", "d"])

    def write_data(self, name: str, lines: list[str], audio_root: str, features: list[str]) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tracks.csv").write_text("\n".join(lines) + "\n")
        (folder / "card.json").write_text(json.dumps({"audio_root": audio_root, "feature_names": features}))
        return folder

    def audio_data(self, name: str = "clips", count: int = 40, distinct: int = 40) -> Path:
        """Short mp3s whose pitch follows the target; rows beyond `distinct` share their files' contents."""
        audio = self.folder / f"{name}_audio"
        made = self.run_tool("clips", audio, str(min(count, distinct)))
        self.check(made.returncode == 0, made.stderr)
        lines = ["id,audio,genre,popularity,split,kept"]
        for i in range(count):
            if i >= distinct:
                os.link(audio / f"clip{i % distinct}.mp3", audio / f"clip{i}.mp3")
            lines.append(f"clip{i},clip{i}.mp3,g,{20 + i % distinct % 40},{'test' if i % 5 == 4 else 'train'},1")
        return self.write_data(name, lines, str(audio), [])

    def run_tool(self, *args, text: str = "") -> subprocess.CompletedProcess:
        return subprocess.run([self.tools.tool, *map(str, args)], input=text, capture_output=True, text=True,
                              timeout=TIME_LIMIT_SECONDS, env=clean_environment())

    def dense(self, run: str, *more: str, data: str = "data") -> list[str]:
        """40 steps, every one of them logged, seven checkpoints; dropout and averages make the state large."""
        settings = ["train.epochs=4", "train.batch_size=32", "train.log_steps=1", "train.checkpoint_steps=7",
                    "model.hidden=[16,8]", "model.dropout=0.1", "average.kind=swa", "schedule.kind=cosine", *more]
        return self.train("dense", data, run, settings)

    def dense_autograd(self, run: str, *more: str) -> list[str]:
        """The same, but steps go through autograd."""
        return self.dense(run, "average.kind=ema", "average.ema_decay=0.9", *more)

    def passt(self, run: str, *more: str, data: str = "clips") -> list[str]:
        """Six steps on 32 clips of 0.4 s."""
        settings = ["model.preset=passt-xs", "data.seconds=0.4", "train.epochs=2", "train.max_steps=6",
                    "train.batch_size=8", "train.log_steps=1", "train.eval_epochs=0", "train.checkpoint_epochs=0",
                    "train.patchout_time=2", "train.patchout_freq=1", "average.kind=ema", "average.ema_decay=0.9",
                    "train.checkpoint_steps=2", *more]
        return self.train("passt", data, run, settings)

    def train(self, model: str, data: str, run: str, settings: list[str]) -> list[str]:
        words = ["train", model, "--data", str(self.folder / data), "--run", str(self.folder / run)]
        for setting in settings:
            words += ["--set", setting]
        return words

    def whole(self, args: list[str], run: str = "whole") -> Path:
        """A run that nothing disturbs."""
        self.code(self.run(*args), 0)
        return self.folder / run

    def forget(self, run: str) -> None:
        shutil.rmtree(self.folder / run, ignore_errors=True)

    # Comparison

    def same_bits(self, a: str, b: str, *words) -> None:
        last = Path("checkpoints/last")
        names = sorted(p.name for p in (self.folder / a / last).glob("*.safetensors"))
        self.check("model.safetensors" in names, a, "has no weights")
        for name in names:
            same = (self.folder / a / last / name).read_bytes() == (self.folder / b / last / name).read_bytes()
            self.check(same, name, "of", a, "and", b, "differ;", *words)

    def same_run(self, a: str, b: str, *words) -> None:
        """Weights, moments and averages to the bit, every line of metrics, and nothing left over."""
        self.same_bits(a, b, *words)
        ours, theirs = metrics(self.folder / a), metrics(self.folder / b)
        self.check(len(ours) == len(theirs), len(ours), "and", len(theirs), "lines of metrics;", *words)
        for one, other in zip(ours, theirs):
            self.check(one == other, one, "and", other, "differ;", *words)
        self.clean(b, *words)

    def clean(self, run: str, *words) -> None:
        left = temporaries(self.folder / run)
        self.check(not left, "left over:", left, *words)

    def resume(self, args: list[str], whole: str, run: str, *words) -> None:
        """The same command again: goes on and ends as one that was never disturbed."""
        again = self.run(*args)
        self.check(again.code == 0, f"resumed run ends with {again.code};", *words, again.err)
        self.same_run(whole, run, *words)

    def some(self, values, fast: int) -> list:
        """All values, or `fast` of them spread over the whole in the fast subset."""
        values = list(values)
        if self.exhaustive or len(values) <= fast:
            return values
        return [values[i * (len(values) - 1) // max(1, fast - 1)] for i in range(fast)]


def quick_parent() -> str:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
