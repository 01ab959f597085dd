"""Memory, threads and descriptors that the system refuses."""
import resource

from harness import fault

# What a refused request may end in: out of memory, input or output that cannot be opened, or thread
# and library errors that carry no better reason. Never a signal, never a hang.
REFUSED = (65, 66, 70, 73, 74, 78, 81, 83)


def limit(which, value):
    return lambda: resource.setrlimit(which, (value, value))


@fault("address space limited (RLIMIT_AS), from too little to start to nearly enough",
       "a clean error, or done; never a hang; a crash only inside of oneDNN", "81 or another error code; 127 if the dynamic "
       "linker has no room; 139 of oneDNN")
def address_space(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole")), 0)
    sizes = [64 << 20 << i for i in range(6)] + [(100 + 25 * i) << 20 for i in range(24)]
    reached = set()
    for size in t.some(sorted(sizes), 6):
        t.tries += 1
        t.forget("a")
        result = t.run(*t.passt("a"), preexec=limit(resource.RLIMIT_AS, size))
        reached.add(result.code)
        if result.code == 139 and "libdnnl.so" in result.err:
            continue
        t.code(result, 0, 127, *REFUSED)  # 127: of the dynamic linker
        if result.code not in (0, 127):
            t.check("onpa: " in result.err, result.err)
        if result.code == 0:
            t.same_run("whole", "a", size)
        else:
            t.clean("a", size)
    t.check(0 in reached and len(reached) > 1, "no limit took effect:", reached)


@fault("descriptors limited (RLIMIT_NOFILE)", "a clean error that says so, or done", "an error code, or 0")
def descriptors(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole")), 0)
    reached = set()
    for count in t.some(range(3, 24), 5):
        t.tries += 1
        t.forget("a")
        result = t.run(*t.passt("a"), preexec=limit(resource.RLIMIT_NOFILE, count))
        reached.add(result.code)
        t.code(result, 0, 127, *REFUSED)
        if result.code not in (0, 127):
            t.says(result, "Too many open files")
        if result.code == 0:
            t.same_run("whole", "a", count)
    t.check(0 in reached and len(reached) > 1, "no limit took effect:", reached)


def refuse(t, call: str, numbers, codes) -> dict:
    seen = {}
    for n in numbers:
        t.tries += 1
        t.forget("a")
        env = {"LD_PRELOAD": t.tools.shim, "ONPA_SHIM_FAIL": f"{call}:{n}:ENOMEM", "ONPA_SHIM_AFTER": "/tracks.csv"}
        result = t.run(*t.passt("a"), env=env)
        seen.setdefault(result.code, []).append(n)
        library = result.code == 139 and "libdnnl.so" in result.err
        # Both end the program from a function that must not throw: a destructor of JSON; the C++ library's listing.
        aborted = result.code == 134 and ("std::bad_alloc" in result.err or "directory_iterator" in result.err)
        if library or aborted:
            t.resume(t.passt("a"), "whole", "a", call, n)
            continue
        t.check(result.code in codes, call, n, "ends with", result.code, result.err)
        if result.code == 0:
            t.same_run("whole", "a", call, n)
        else:
            t.clean("a", call, n)
            t.check("onpa: " in result.err, result.err)
    return seen


@fault("a thread cannot be made (each pthread_create in turn)", "a clean error", "an error code", needs=("shim",))
def threads(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole")), 0)
    seen = refuse(t, "pthread_create", t.some(range(1, 6), 3), (0, *REFUSED))
    t.check(any(code != 0 for code in seen), seen)


@fault("a file cannot be opened for want of descriptors (each open in turn)",
       "a clean error, or a run without that file (a track is left out)", "an error code, or 0", needs=("shim",))
def opens(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole", "data.max_bad_fraction=0.1")), 0)
    reached = set()
    for n in t.some(range(1, 120), 10):
        t.tries += 1
        t.forget("a")
        env = {"LD_PRELOAD": t.tools.shim, "ONPA_SHIM_FAIL": f"open:{n}:EMFILE", "ONPA_SHIM_AFTER": "/tracks.csv"}
        result = t.run(*t.passt("a", "data.max_bad_fraction=0.1"), env=env)
        reached.add(result.code)
        t.code(result, 0, *REFUSED)
        t.clean("a", n)
    t.check(len(reached) > 1, reached)


@fault("an allocation fails (malloc, from the opening of the data set on)", "out of memory is said; never a hang; a crash "
       "only inside of oneDNN, or of nlohmann-json's destructor and libstdc++'s directory_iterator, which allocate where "
       "nothing may be thrown; resumed: same bits",
       "81 or another error code; 0 where it is done without; 139 of oneDNN, 134 of the others", needs=("shim",))
def allocations(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole")), 0)
    numbers = sorted({int(1.06 ** i) for i in range(8, 180)}) if t.exhaustive else [3, 60, 1500, 8000]
    seen = refuse(t, "malloc", numbers, (0, *REFUSED))
    t.check(81 in seen, seen)


@fault("large blocks of memory are refused (each mmap in turn)", "out of memory is said; never a hang; a crash only inside "
       "of oneDNN, which does not check for the memory of its machine code",
       "81 or another error code; 0 where it is done without; 139 of oneDNN", needs=("shim",))
def mappings(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole")), 0)
    refuse(t, "mmap", t.some(range(1, 40), 3), (0, *REFUSED))
