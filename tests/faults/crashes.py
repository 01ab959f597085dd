"""Processes that die in the middle of a run by their own fault."""
from harness import fault

ENDS = {"segv": (139, "died of SIGSEGV"), "terminate": (134, "died of SIGABRT"), "kill": (137, ""),
        "exit": (70, "exit(0) was called in the middle of the work")}


@fault("SIGSEGV, std::terminate, exit(0) or SIGKILL after a step",
       "never 0; the cause and a backtrace on stderr (but for SIGKILL); resumed: same bits", "139, 134, 70, 137; then 0")
def dies_after_a_step(t):
    t.dense_data()
    t.whole(t.dense("whole"))
    for action, (code, words) in ENDS.items():
        for step in t.some(range(1, 41), 2):
            t.tries += 1
            t.forget("a")
            result = t.run(*t.dense("a"), env={"ONPA_FAULT": f"step:{step}:{action}"})
            t.code(result, code)
            t.says(result, words)
            if code in (139, 134):
                t.check(result.err.count("onpa(") >= 3, "no backtrace:", result.err)
            t.resume(t.dense("a"), "whole", "a", action, step)


@fault("SIGSEGV, std::terminate or exit(0) in a thread of the loader",
       "never 0; the cause on stderr; resumed: same bits", "139, 134, 70; then 0")
def dies_in_the_loader(t):
    t.audio_data()
    t.whole(t.passt("whole"))
    for action in ("segv", "terminate", "exit"):
        code, words = ENDS[action]
        for sample in t.some((1, 9, 20, 41, 60), 1 if action != "exit" else 2):
            t.tries += 1
            t.forget("a")
            result = t.run(*t.passt("a"), env={"ONPA_FAULT": f"loader:{sample}:{action}"})
            t.code(result, code)
            t.says(result, words)
            t.resume(t.passt("a"), "whole", "a", action, sample)
