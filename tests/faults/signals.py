"""Signals that ask a run to stop, at any time."""
import signal
import time

from harness import fault, last_step, metrics


def whole_run(t):
    """Makes the run that nothing disturbs; what starts another like it, and the seconds that one takes."""
    t.dense_data()
    args = lambda run: t.dense(run, "train.epochs=40", "train.eval_epochs=5", "train.checkpoint_steps=150",
                               "train.checkpoint_epochs=0")
    t.whole(args("whole"))
    return args, t.run(*args("timed")).seconds


def stop_somewhere(t, args, number: int, longest: float, times: int = 1):
    """Starts a run, lets it go for a random time, sends a signal; (result, seconds from signal to end)."""
    job = t.start(*args)
    job.wait_until_it_catches(number)
    time.sleep(t.rng.uniform(0, longest))
    begin = time.monotonic()
    for _ in range(times):
        job.send(number)
    result = t.end(job)
    return result, time.monotonic() - begin


@fault("SIGUSR1, as a scheduler sends it before it takes the machine away, at a random time, again and again",
       "checkpoint of the last step taken, no line of metrics twice; resumed as often: same bits", "75")
def usr1_at_random_times(t):
    args, whole_seconds = whole_run(t)
    wanted = 200 if t.exhaustive else 8
    chain = 0
    while t.tries < wanted:
        result, _ = stop_somewhere(t, args("a"), signal.SIGUSR1, whole_seconds / 4)
        if result.code == 0:  # the signal came after the last step
            t.same_run("whole", "a", "after", chain, "stops")
            t.forget("a")
            chain = 0
            continue
        t.tries += 1
        chain += 1
        t.code(result, 75)
        step = last_step(t.folder / "a")
        t.says(result, f"stopped at step {step};")
        steps = [(line["step"], "test_rmse" in line) for line in metrics(t.folder / "a")]
        t.check(len(steps) == len(set(steps)), "lines of metrics twice", steps)
        t.check([s for s, test in steps if not test] == list(range(1, step + 1)), "metrics and checkpoint", step, steps[-3:])
        t.clean("a")
    if chain:
        t.resume(args("a"), "whole", "a")


@fault("SIGTERM or SIGINT once, SIGTERM twice, at a random time",
       "ends within 3 s with a checkpoint of the last step; resumed: same bits", "75")
def term_and_int(t):
    args, whole_seconds = whole_run(t)
    ways = [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)] * (10 if t.exhaustive else 1)
    while ways:
        number, times = ways[0]
        t.forget("a")
        result, took = stop_somewhere(t, args("a"), number, whole_seconds / 2, times)
        if result.code == 0:
            continue  # the signal came after the last step
        ways.pop(0)
        t.tries += 1
        t.code(result, 75)
        t.check(took < 3, "took", took, "s")
        t.says(result, f"stopped at step {last_step(t.folder / 'a')};")
        t.resume(args("a"), "whole", "a", number, times)


@fault("Ctrl-C twice", "ends at once; the newest checkpoint loads; resumed: same bits", "130 (or 75)")
def int_twice(t):
    t.dense_data()
    args = lambda run: t.dense(run, "train.epochs=400", "train.eval_epochs=0", "train.checkpoint_steps=9",
                               "train.checkpoint_epochs=0")
    t.whole(args("whole"))
    for _ in range(20 if t.exhaustive else 3):
        t.forget("a")
        job = t.start(*args("a"))
        job.wait_for("step 50/")
        time.sleep(t.rng.uniform(0, 0.1))
        job.send(signal.SIGINT)
        time.sleep(t.rng.uniform(0, 0.003))
        job.send(signal.SIGINT)
        begin = time.monotonic()
        result = t.end(job)
        t.tries += 1
        t.check(time.monotonic() - begin < 3, "took", time.monotonic() - begin, "s")
        t.code(result, 130, 75)  # 75: the checkpoint was faster than the second one
        t.resume(args("a"), "whole", "a")
