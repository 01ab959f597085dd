"""Runs that go on with other settings, and what must not change a run."""
from harness import fault, metrics


@fault("resumed with another batch size, accumulation or learning rate", "goes on from the checkpoint; every changed "
       "setting is named in a warning; lines of metrics follow without a gap", "0")
def other_settings(t):
    t.dense_data()
    changes = (["train.batch_size=16"], ["train.accumulate=2"], ["train.lr=0.01", "train.batch_size=64"], ["train.seed=9"])
    for change in changes:
        t.tries += 1
        t.forget("a")
        t.code(t.run(*t.dense("a", "train.max_steps=17")), 0)
        result = t.run(*t.dense("a", *change))
        t.code(result, 0)
        t.says(result, "resuming at step 17", "settings changed since the checkpoint", *(c.split("=")[0] for c in change))
        steps = [line["step"] for line in metrics(t.folder / "a") if "test_rmse" not in line]
        t.check(steps == list(range(1, len(steps) + 1)), steps)
        t.clean("a")


@fault("stopped between two lines of metrics", "resumed: same bits, same metrics: a line has the mean of all its steps", "0")
def between_lines(t):
    t.dense_data()
    args = lambda name, *more: t.dense(name, "train.log_steps=7", *more)
    t.code(t.run(*args("whole")), 0)
    for step in t.some(range(1, 40), 3):
        t.tries += 1
        t.forget("a")
        t.code(t.run(*args("a", f"train.max_steps={step}", "train.eval_epochs=0")), 0)
        again = t.run(*args("a"))
        t.code(again, 0)
        ours, theirs = ([line for line in metrics(t.folder / run) if "loss" in line] for run in ("whole", "a"))
        t.check(ours == theirs, ours, "and", theirs, "differ;", step)


@fault("resumed with other rows in the data set", "goes on; says that the data set has changed", "0")
def other_data(t):
    t.dense_data()
    t.dense_data("more", 480)
    t.dense_data("fewer", 300)
    for data in ("more", "fewer"):
        t.tries += 1
        t.forget("a")
        t.code(t.run(*t.dense("a", "train.max_steps=10")), 0)
        result = t.run(*t.dense("a", data=data))
        t.code(result, 0)
        t.says(result, "the data set has changed")
    # In the middle of an epoch, at a place that the smaller set does not have.
    t.tries += 1
    t.forget("a")
    t.code(t.run(*t.dense("a", "train.max_steps=19")), 0)
    t.dense_data("tiny", 100)
    result = t.run(*t.dense("a", data="tiny"))
    t.code(result, 0, 65, 78)
    t.says(result, "the data set")


@fault("the same run with 0, 1, 4 and 16 loader threads, 1 and 2 compute threads, and again", "same bits", "0")
def threads(t):
    t.audio_data()
    t.whole(t.passt("whole"))
    ways = [(workers, compute) for workers in (0, 1, 4, 16) for compute in (1, 2)]
    for workers, compute in t.some(ways, 3):
        t.tries += 1
        t.forget("a")
        t.code(t.run(*t.passt("a", f"loader.workers={workers}"), env={"ONPA_THREADS": str(compute)}), 0)
        t.same_run("whole", "a", workers, compute)
