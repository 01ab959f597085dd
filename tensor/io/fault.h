// Faults on request, for tests: any operation on a file that onpa writes can be made to fail as on
// a full disk, or to kill the process.
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
