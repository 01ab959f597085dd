"""One trial: `onpa train` as a child process, watched through the files that it writes."""
import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from study_tools import EXIT_CANNOT_CREATE, ToolError, make_folder
from tune_space import set_text

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _end_with_parent() -> None:
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Trial:
    """`command`: onpa and its first arguments; `settings` by key."""

    def __init__(self, command: list[str], folder: pathlib.Path, config: pathlib.Path | None, settings: dict,
                 texts: list[str], threads: int | None):
        self.folder, self.run, self.report_file = folder, folder / "run", folder / "report.json"
        self.log = folder / "log.txt"
        self.given_up = False  # stopped because it is not worth going on
        self.started = time.monotonic()
        self._seen: set[int] = set()
        make_folder(folder)
        self._wait_for_lock()
        arguments = [*command, "--run", str(self.run), "--resume", "auto", "--report-json", str(self.report_file),
                     "--quiet"]
        if config is not None:
            arguments += ["--config", str(config)]
        for text in texts:
            arguments += ["--set", text]
        for key, value in settings.items():
            arguments += ["--set", f"{key}={set_text(value)}"]
        environment = dict(os.environ)
        if threads is not None:
            environment["ONPA_THREADS"] = str(threads)
        self.report_file.unlink(missing_ok=True)
        try:
            with self.log.open("w", encoding="utf-8") as log:
                # In a session of its own, so that Ctrl-C reaches it only through tune.py.
                self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                 env=environment, start_new_session=True, preexec_fn=_end_with_parent)
        except OSError as error:
            raise ToolError(EXIT_CANNOT_CREATE, f"cannot start {arguments[0]}: {error.strerror}") from error

    def _wait_for_lock(self) -> None:
        """A trial of a search that was killed ends by itself; its run folder is free then."""
        for _ in range(600):
            try:
                with (self.run / "lock").open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except FileNotFoundError:
                return
            except BlockingIOError:
                time.sleep(0.1)

    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait()

    def evaluations(self) -> list[tuple[int, dict]]:
        """Those that have not been returned before: epoch and the line of metrics."""
        try:
            text = (self.run / "metrics.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        out = []
        for line in text.splitlines(keepends=True):
            if not line.endswith("\n") or '"validation_rmse"' not in line:
                continue
            metrics = json.loads(line)
            epoch = int(metrics["epoch"])
            if epoch not in self._seen:
                self._seen.add(epoch)
                out.append((epoch, metrics))
        return out

    def report(self) -> dict:
        try:
            return json.loads(self.report_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def last_lines(self, count: int = 3) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-count:])

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def drop_checkpoints(self) -> None:
        shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
