// Faults on request, for tests: any operation on a file that onpa writes can be made to fail as on
// a full disk, or to kill the process; a training step can be disturbed at a few places.
#pragma once

namespace onpa::io {

/// What a file that onpa writes is for. The names in ONPA_FAULT are those below without the k, in
/// lower case: checkpoint, run (config.resolved.toml, env.json, bad_tracks.csv, lock), metrics,
/// events, data (a data set), tables (of eval and demo, predictions.csv), npy, cache (decoded PCM),
/// corpus, demo (demo.json, seconds.json).
enum class FileKind {
  kCheckpoint,
  kRun,
  kMetrics,
  kEvents,
  kData,
  kTables,
  kNpy,
  kCache,
  kCorpus,
  kDemo
};

/// Counts one file operation while a FaultScope lives on this thread, and otherwise does nothing.
/// If the environment holds ONPA_FAULT=KIND:N:ACTION and this is the N-th of that kind since the
/// process began (from 1), it acts: `kill` raises SIGKILL, `enospc` and `eio` set errno and return
/// false, upon which the caller must fail as if its system call had. KIND:N+:ACTION fails the N-th
/// and all that follow, as a disk that stays full does.
bool fault_point();

/// Places that a training run comes by, which ONPA_FAULT=SITE:N:ACTION can disturb; N counts the
/// times in this process, from 1, and N+ stands for that and all later ones. The names of sites are
/// those below without the k, in lower case.
enum class FaultSite {
  kStep,        // a step has been taken and counted
  kCollective,  // a collective of several ranks is about to be started
  kLoader,      // a sample is about to be loaded, by any thread
  kDecoder,     // a file is about to be decoded: what order_fault() is for
  // Where the CPU takes steps through autograd:
  kLoss,      // this rank's loss of a pass is there
  kGradient,  // backward is about to begin with this gradient of the loss
  kWeights,   // the weights have just been updated
};

/// What the caller of fault_site() has to do to its values.
enum class Spoil {
  kNone,
  kNan,    // make one NaN
  kNudge,  // change one by a thousandth
};

/// One branch unless ONPA_FAULT names a site. When the named one is come by for the N-th time, the
/// actions `kill` (SIGKILL), `segv` (a bad address is written to), `terminate`, `exit` (as a
/// library that calls exit(0)) and `hang` (this thread sleeps for ever) do not return; `nan` and
/// `nudge`, for loss, gradient and weights, return what to do. Throws Error as FaultScope.
Spoil fault_site(FaultSite site);

/// For what another process does on this one's behalf: counts as fault_site() does, here, but
/// leaves the action to carry_out() there. Returns its number; 0: nothing. For kDecoder, whose
/// actions are those above and `allocate`: a block of 10 GB.
int order_fault(FaultSite site);
/// Throws std::bad_alloc if there is no memory for `allocate`.
void carry_out(int order);

/// Marks the operations of this thread as those on files of one kind; the innermost scope counts.
/// Throws Error (kConfig) if ONPA_FAULT is set to anything else.
class FaultScope {
 public:
  explicit FaultScope(FileKind kind);
  ~FaultScope();
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;

 private:
  int outer_;
};

}  // namespace onpa::io
