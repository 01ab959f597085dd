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
