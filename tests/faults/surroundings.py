"""Clocks, time zones, terminals, pipes, and other jobs."""
import os
import pty
import signal
import subprocess
import time

from harness import Skipped, fault, metrics

LONG = ("train.epochs=400000", "train.checkpoint_epochs=0", "train.checkpoint_steps=0", "train.eval_epochs=0",
        "train.log_steps=50")


@fault("a second job in the folder of a run that is alive; then with the first stopped by SIGSTOP; then dead",
       "refused, host and process named; once it is dead the folder is taken over", "73, 73, 0")
def two_jobs(t):
    t.dense_data()
    first = t.start(*t.dense("a", *LONG))
    first.wait_for("step 50/")
    for stopped in (False, True):
        if stopped:
            first.send(signal.SIGSTOP)
        t.tries += 1
        second = t.run(*t.dense("a"))
        t.code(second, 73)
        t.says(second, "another run uses this folder", os.uname().nodename, str(first.pid))
    first.send(signal.SIGKILL)
    t.code(t.end(first), 137)
    t.tries += 1
    t.code(t.run(*t.dense("a")), 0)
    t.clean("a")


@fault("the host's name changes between a kill and the resume", "refused with the way out; with the lock removed: goes on",
       "73, then 0")
def host_name(t):
    t.dense_data()
    t.code(t.run(*t.dense("a"), env={"ONPA_FAULT": "step:12:kill"}), 137)
    probe = subprocess.run(["unshare", "--user", "--map-root-user", "--uts", "hostname", "elsewhere"], capture_output=True)
    if probe.returncode != 0:
        raise Skipped("no user namespaces here")
    t.tries += 1
    prefix = ["unshare", "--user", "--map-root-user", "--uts", "sh", "-c", 'hostname elsewhere && exec "$0" "$@"']
    result = t.end(t.start(*t.dense("a"), prefix=prefix))
    t.code(result, 73)
    t.says(result, "remove the file 'lock'")
    (t.folder / "a/lock").unlink()
    t.code(t.end(t.start(*t.dense("a"), prefix=prefix)), 0)


@fault("the clock jumps a day ahead, a day back, or runs 1000 times too fast; another time zone", "same bits, same metrics; "
       "no time-out, rates and remaining time from the monotonic clock", "0", needs=("faketime",))
def clock(t):
    t.dense_data()
    t.whole(t.dense("whole"))
    for jump in ("+1d", "-1d", "+0 x1000", "@2038-01-19 03:14:00", "@1970-01-02 00:00:00"):
        t.tries += 1
        t.forget("a")
        env = {"LD_PRELOAD": t.tools.faketime, "FAKETIME": jump, "FAKETIME_DONT_FAKE_MONOTONIC": "1",
               "DONT_FAKE_MONOTONIC": "1"}
        t.code(t.run(*t.dense("a"), env=env), 0)
        t.same_run("whole", "a", jump)
    # In the middle of a run: the file is read anew at every look at the clock.
    for jump in ("+1d", "-1d"):
        t.tries += 1
        t.forget("a")
        file = t.folder / "jump"
        file.write_text("+0")
        env = {"LD_PRELOAD": t.tools.faketime, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
               "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        job = t.start(*t.dense("a", *LONG), env=env)
        job.wait_for("step 50/")
        file.write_text(jump)
        time.sleep(0.5)
        job.send(signal.SIGTERM)
        t.code(t.end(job), 75)
        seconds = [float(line.split("ETA")[1].strip().split(":")[-1] != "?") for line in job.said().splitlines()
                   if "ETA" in line]
        t.check(seconds, "no lines of progress")


@fault("time zone and language are others", "same bits, same metrics", "0")
def locale(t):
    t.dense_data()
    t.whole(t.dense("whole"))
    for env in ({"TZ": "Asia/Tokyo"}, {"TZ": "nonsense/zone"}, {"LC_ALL": "de_DE.UTF-8"}, {"LC_ALL": "nonsense"}):
        t.tries += 1
        t.forget("a")
        t.code(t.run(*t.dense("a"), env=env), 0)
        t.same_run("whole", "a", env)


@fault("stdout and stderr are closed, or /dev/full, or a pipe whose reader has gone", "same bits, same metrics", "0")
def no_reader(t):
    t.dense_data()
    t.whole(t.dense("whole"))

    def closed():
        os.close(1)
        os.close(2)

    t.tries += 1
    t.code(t.run(*t.dense("a"), preexec=closed), 0)
    t.same_run("whole", "a", "closed")
    for target in ("full", "gone"):
        t.tries += 1
        t.forget("a")
        if target == "full":
            end = os.open("/dev/full", os.O_WRONLY)
        else:
            reader, end = os.pipe()
            os.close(reader)
        with os.fdopen(end, "wb") as pipe:
            job = t.start(*t.dense("a"), stdout=pipe, stderr=pipe)
            t.code(t.end(job), 0)
        t.same_run("whole", "a", target)


@fault("stderr is a pipe that is full and that nobody reads", "lines are lost, training goes on: same bits", "0")
def full_pipe(t):
    t.dense_data()
    # Some 100 kB of lines; a pipe takes 64.
    args = lambda run: t.dense(run, "train.epochs=150", "train.checkpoint_epochs=50", "train.checkpoint_steps=0",
                               "train.eval_epochs=50")
    t.whole(args("whole"))
    t.tries += 1
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as pipe:
        job = t.start(*args("a"), stdout=subprocess.DEVNULL, stderr=pipe)
    result = t.end(job, 30)
    t.code(result, 0)
    t.check(len(os.read(reader, 1 << 20)) > 60000, "the pipe was never full")
    os.close(reader)
    t.same_run("whole", "a")


@fault("no terminal, a terminal, TERM=dumb, COLUMNS=20, NO_COLOR", "same bits; plain lines without a terminal, none "
       "wider than the columns with one", "0")
def terminals(t):
    t.dense_data()
    t.whole(t.dense("whole"))
    for env in ({"TERM": "xterm"}, {"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "20"},
                {"TERM": "xterm", "NO_COLOR": "1"}):
        t.tries += 1
        t.forget("a")
        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "wb") as terminal:
            job = t.start(*t.dense("a"), env=env, stdout=subprocess.DEVNULL, stderr=terminal)
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            said += piece
        os.close(ours)
        t.code(t.end(job), 0)
        t.same_run("whole", "a", env)
        fancy = env.get("TERM") == "xterm"
        t.check((b"\x1b[K" in said) == fancy, env, said[:200])
        if env.get("NO_COLOR") or not fancy:
            t.check(b"\x1b[36m" not in said, said[:200])
        if env.get("COLUMNS"):
            drawn = [part.split(b"\x1b[0m")[0].replace(b"\x1b[36m", b"") for part in said.split(b"\x1b[K")[1:]]
            t.check(all(len(line.split(b"\r")[0]) < 20 for line in drawn if line.startswith(b"step")), drawn[:3])
    t.check(metrics(t.folder / "a"), "no metrics")
