// Loaded before the C library (LD_PRELOAD): notes what a program does to the files of one folder, or
// makes the N-th call of a kind fail.
//
//   ONPA_SHIM_ROOT   the folder; other files are left alone
//   ONPA_SHIM_LOG    where to note every change: see record()
//   ONPA_SHIM_FAIL   CALL:N:ERROR; the N-th write, fsync, rename, symlink, open, pthread_create, malloc
//                    (of any kind), mmap or posix_spawn fails with EDQUOT, EROFS, EIO, EMFILE, ENOMEM or EAGAIN; `short`
//                    writes half. Without ONPA_SHIM_ROOT files anywhere count.
//   ONPA_SHIM_CRASH  the end of a path; who opens such a file dies of SIGSEGV
//   ONPA_SHIM_AFTER  calls count from the first open of a file on whose path this text ends
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FD 4096

static char root[PATH_MAX];
static int log_fd = -1;
static const char* fail_call = "";
static long fail_at = 0;
static int fail_errno = 0, fail_short = 0;
static atomic_long counted;
static atomic_int armed;
static const char* after = NULL;
static const char* crash = NULL;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned handle_of[MAX_FD];  // 0: not of the folder
static unsigned handles;

__attribute__((constructor)) static void start(void) {
  const char* text = getenv("ONPA_SHIM_ROOT");
  if (text) snprintf(root, sizeof root, "%s", text);
  text = getenv("ONPA_SHIM_LOG");
  if (text) log_fd = (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  text = getenv("ONPA_SHIM_FAIL");
  static char copy[256];
  if (text && strlen(text) < sizeof copy) {
    strcpy(copy, text);
    char* number = strchr(copy, ':');
    char* name = number ? strchr(number + 1, ':') : NULL;
    if (name) {
      *number = *name = 0;
      fail_call = copy;
      fail_at = atol(number + 1);
      static const struct {
        const char* name;
        int value;
      } errors[] = {{"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EIO", EIO}, {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN}};
      for (size_t i = 0; i < sizeof errors / sizeof *errors; ++i) {
        if (!strcmp(name + 1, errors[i].name)) fail_errno = errors[i].value;
      }
      fail_short = !strcmp(name + 1, "short");
    }
  }
  crash = getenv("ONPA_SHIM_CRASH");
  after = fail_at > 0 ? getenv("ONPA_SHIM_AFTER") : NULL;
  atomic_store(&armed, fail_at > 0 && !after);
}

static int ends_with(const char* path, const char* end) {
  const size_t n = strlen(path), m = strlen(end);
  return n >= m && !strcmp(path + n - m, end);
}

static void about_to_open(const char* path) {
  if (after && ends_with(path, after)) atomic_store(&armed, 1);
  if (crash && ends_with(path, crash)) {
    volatile int* volatile nowhere = NULL;
    *nowhere = 0;
  }
}

// Whether this call is the one that is to fail.
static int due(const char* call) {
  return atomic_load_explicit(&armed, memory_order_relaxed) && !strcmp(call, fail_call) &&
         atomic_fetch_add(&counted, 1) + 1 == fail_at;
}

static int in_root(const char* path) {
  const size_t n = strlen(root);
  return n && !strncmp(path, root, n) && (path[n] == '/' || path[n] == 0);
}
static int counts(const char* path) { return !root[0] || in_root(path); }

// The absolute path of `path` as seen from the folder `at`.
static const char* absolute(int at, const char* path, char* out) {
  if (path[0] == '/') return path;
  char base[PATH_MAX], link[64];
  ssize_t n;
  if (at == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return path;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    n = readlink(link, base, sizeof base - 1);
    if (n < 0) return path;
    base[n] = 0;
  }
  snprintf(out, PATH_MAX, "%.*s/%s", PATH_MAX - 300, base, path);
  return out;
}

// One record: kind, handle, offset, sizes of two byte strings, then these. The log is written by one
// system call each, so that it is whole however the program ends.
static void record(char kind, unsigned handle, long offset, const void* a, size_t a_bytes, const void* b,
                   size_t b_bytes) {
  if (log_fd < 0) return;
  const size_t head = 1 + 4 + 8 + 4 + 4, bytes = head + a_bytes + b_bytes;
  char* text = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (text == MAP_FAILED) abort();
  const unsigned sizes[2] = {(unsigned)a_bytes, (unsigned)b_bytes};
  text[0] = kind;
  memcpy(text + 1, &handle, 4);
  memcpy(text + 5, &offset, 8);
  memcpy(text + 13, sizes, 8);
  memcpy(text + head, a, a_bytes);
  memcpy(text + head + a_bytes, b, b_bytes);
  if (syscall(SYS_write, log_fd, text, bytes) != (long)bytes) abort();
  munmap(text, bytes);
}
static void record_paths(char kind, const char* a, const char* b) {
  record(kind, 0, 0, a, strlen(a), b, strlen(b));
}

static void* next(const char* name) { return dlsym(RTLD_NEXT, name); }

static int open_at(int at, const char* path, int flags, mode_t mode) {
  char full[PATH_MAX];
  const char* where = absolute(at, path, full);
  about_to_open(path);
  if (counts(where) && due("open")) {
    errno = fail_errno;
    return -1;
  }
  if (!in_root(where)) return (int)syscall(SYS_openat, at, path, flags, mode);
  pthread_mutex_lock(&mutex);
  struct stat info;
  const int there = lstat(where, &info) == 0;
  const int fd = (int)syscall(SYS_openat, at, path, flags, mode);
  const int error = errno;
  if (fd >= 0 && fd < MAX_FD) {
    handle_of[fd] = ++handles;
    record(there ? 'o' : 'c', handles, flags & O_TRUNC ? 1 : 0, where, strlen(where), "", 0);
  }
  pthread_mutex_unlock(&mutex);
  errno = error;
  return fd;
}

#define OPEN_MODE                       \
  mode_t mode = 0;                      \
  if (flags & (O_CREAT | O_TMPFILE)) {  \
    va_list rest;                       \
    va_start(rest, flags);              \
    mode = va_arg(rest, mode_t);        \
    va_end(rest);                       \
  }
int open(const char* path, int flags, ...) {
  OPEN_MODE return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  OPEN_MODE return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int at, const char* path, int flags, ...) {
  OPEN_MODE return open_at(at, path, flags, mode);
}
int openat64(int at, const char* path, int flags, ...) {
  OPEN_MODE return open_at(at, path, flags, mode);
}
FILE* fopen(const char* path, const char* mode) {
  about_to_open(path);
  if (counts(path) && due("open")) {
    errno = fail_errno;
    return NULL;
  }
  return ((FILE * (*)(const char*, const char*)) next("fopen"))(path, mode);
}
FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }

static unsigned handle(int fd) { return fd >= 0 && fd < MAX_FD ? handle_of[fd] : 0; }
static int counts_fd(int fd) { return !root[0] || handle(fd); }

int close(int fd) {
  if (fd >= 0 && fd < MAX_FD) handle_of[fd] = 0;
  return (int)syscall(SYS_close, fd);
}

ssize_t write(int fd, const void* data, size_t bytes) {
  if (counts_fd(fd) && due("write")) {
    if (!fail_short) {
      errno = fail_errno;
      return -1;
    }
    bytes = bytes > 1 ? bytes / 2 : bytes;
  }
  if (!handle(fd)) return syscall(SYS_write, fd, data, bytes);
  pthread_mutex_lock(&mutex);
  const ssize_t done = syscall(SYS_write, fd, data, bytes);
  const int error = errno;
  // Where the data went: the place behind them, less their number.
  if (done > 0) record('w', handle(fd), lseek(fd, 0, SEEK_CUR) - done, data, (size_t)done, "", 0);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return done;
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  pthread_mutex_lock(&mutex);
  const ssize_t done = syscall(SYS_pwrite64, fd, data, bytes, offset);
  const int error = errno;
  if (done > 0 && handle(fd)) record('w', handle(fd), offset, data, (size_t)done, "", 0);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return done;
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off_t offset) { return pwrite(fd, data, bytes, offset); }

int ftruncate(int fd, off_t bytes) {
  pthread_mutex_lock(&mutex);
  const int status = (int)syscall(SYS_ftruncate, fd, bytes);
  const int error = errno;
  if (status == 0 && handle(fd)) record('t', handle(fd), bytes, "", 0, "", 0);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return status;
}
int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }

static int sync_fd(int fd, long call) {
  if (counts_fd(fd) && due("fsync")) {
    errno = fail_errno;
    return -1;
  }
  pthread_mutex_lock(&mutex);
  const int status = (int)syscall(call, fd);
  const int error = errno;
  if (status == 0 && handle(fd)) record('s', handle(fd), 0, "", 0, "", 0);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return status;
}
int fsync(int fd) { return sync_fd(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_fd(fd, SYS_fdatasync); }

static int rename_at(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
  char a[PATH_MAX], b[PATH_MAX];
  const char *one = absolute(from_at, from, a), *other = absolute(to_at, to, b);
  if (counts(other) && due("rename")) {
    errno = fail_errno;
    return -1;
  }
  pthread_mutex_lock(&mutex);
  const int status = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  const int error = errno;
  if (status == 0 && in_root(other)) record_paths(flags & RENAME_EXCHANGE ? 'x' : 'r', one, other);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return status;
}
int rename(const char* from, const char* to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char* from, int to_at, const char* to) {
  return rename_at(from_at, from, to_at, to, 0);
}
int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) {
  return rename_at(from_at, from, to_at, to, flags);
}

int symlink(const char* target, const char* path) {
  char full[PATH_MAX];
  const char* where = absolute(AT_FDCWD, path, full);
  if (counts(where) && due("symlink")) {
    errno = fail_errno;
    return -1;
  }
  pthread_mutex_lock(&mutex);
  const int status = (int)syscall(SYS_symlinkat, target, AT_FDCWD, path);
  const int error = errno;
  if (status == 0 && in_root(where)) record_paths('l', where, target);
  pthread_mutex_unlock(&mutex);
  errno = error;
  return status;
}

static int remove_at(int at, const char* path, int flags) {
  char full[PATH_MAX];
  const char* where = absolute(at, path, full);
  pthread_mutex_lock(&mutex);
  const int status = (int)syscall(SYS_unlinkat, at, path, flags);
  const int error = errno;
  if (status == 0 && in_root(where)) record_paths('u', where, "");
  pthread_mutex_unlock(&mutex);
  errno = error;
  return status;
}
int unlink(const char* path) { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char* path, int flags) { return remove_at(at, path, flags); }
int rmdir(const char* path) { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) {
  const int status = remove_at(AT_FDCWD, path, 0);
  return status != 0 && errno == EISDIR ? rmdir(path) : status;
}

int mkdirat(int at, const char* path, mode_t mode) {
  char full[PATH_MAX];
  const char* where = absolute(at, path, full);
  pthread_mutex_lock(&mutex);
  const int status = (int)syscall(SYS_mkdirat, at, path, mode);
  const int error = errno;
  if (status == 0 && in_root(where)) record_paths('m', where, "");
  pthread_mutex_unlock(&mutex);
  errno = error;
  return status;
}
int mkdir(const char* path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) {
  if (due("pthread_create")) return EAGAIN;
  return ((int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*))next("pthread_create"))(
      thread, attributes, body, argument);
}

int posix_spawn(pid_t* process, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const arguments[], char* const environment[]) {
  if (due("posix_spawn")) return fail_errno;
  return ((int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*, char* const[],
                   char* const[]))next("posix_spawn"))(process, path, actions, attributes, arguments, environment);
}

void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if ((flags & MAP_ANONYMOUS) && due("mmap")) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return (void*)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}
void* mmap64(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  return mmap(at, bytes, protection, flags, fd, offset);
}

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static int refused(void) {
  if (!due("malloc")) return 0;
  errno = ENOMEM;
  return 1;
}
void* malloc(size_t bytes) { return refused() ? NULL : __libc_malloc(bytes); }
void* calloc(size_t n, size_t bytes) { return refused() ? NULL : __libc_calloc(n, bytes); }
void* realloc(void* old, size_t bytes) { return refused() ? NULL : __libc_realloc(old, bytes); }
void* memalign(size_t alignment, size_t bytes) { return refused() ? NULL : __libc_memalign(alignment, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  void* const block = memalign(alignment, bytes);
  if (!block) return ENOMEM;
  *out = block;
  return 0;
}
