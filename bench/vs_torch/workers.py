"""Processes that wait for a row and run it when told (protocol.h), and what the machine does beside."""
import contextlib
import json
import os
import pathlib
import subprocess

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class WorkerError(RuntimeError):
    pass


class Worker:
    """One peer. Ask it with `ask`; it answers when it is done."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: pathlib.Path):
        self.name = name
        self.log = log
        self._log = open(log, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                                        env=os.environ | environment, text=True, bufsize=1)

    def ask(self, **request) -> dict:
        """Throws WorkerError with the worker's reason, or where its log is if it died."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.name} ended with status {self.process.wait()}; its log is {self.log}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self.name}: {' '.join(reply['error'].split())[:300]}")
        return reply

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory_mib(self, field: str) -> float:
        """VmRSS, or VmHWM: the most it had since forget_peak_memory()."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise WorkerError(f"{self.name}: no {field}")

    def forget_peak_memory(self) -> None:
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it ended before
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._log.close()


def busy_seconds() -> float:
    """CPU time that all processes of the machine took since it started."""
    fields = [int(v) for v in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def machine_state() -> dict:
    """What may disturb a measurement."""
    governor = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {"load_average": list(os.getloadavg()),
            "governor": governor.read_text().strip() if governor.exists() else "not shown by this machine",
            "cores_allowed": sorted(os.sched_getaffinity(0)), "pinned": False, "nice": os.nice(0)}
