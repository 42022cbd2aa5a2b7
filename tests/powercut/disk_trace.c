/* What a program does to the files of one folder, in order; preloaded into its process.
 *
 * Every call that changes a file or a name below DISK_TRACE_ROOT is carried out and appended to
 * DISK_TRACE_FILE under one lock, so that the trace has the order in which the calls took effect.
 * A record is: what (1 byte), descriptor (4), offset (8), lengths of two parts (4 each), the parts.
 *
 * The wall clock is DISK_TRACE_AHEAD_S ahead, so that what the program dates is never older than
 * the files into which its trace is played back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
enum { MOST_FILES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char root[PATH_MAX];
static char watched[MOST_FILES]; /* by descriptor */

static void append(char what, int descriptor, uint64_t offset, const void *first, size_t first_length,
                   const void *second, size_t second_length)
{
    struct __attribute__((packed)) {
        char what;
        int32_t descriptor;
        uint64_t offset;
        uint32_t lengths[2];
    } head = {what, descriptor, offset, {(uint32_t)first_length, (uint32_t)second_length}};
    struct iovec parts[] = {{&head, sizeof head},
                            {(void *)first, first_length},
                            {(void *)second, second_length}};
    size_t total = sizeof head + first_length + second_length;
    int before = errno;
    if (REAL(writev)(trace, parts, 3) != (ssize_t)total) {
        fprintf(stderr, "the trace cannot be written\n");
        abort();
    }
    errno = before;
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("DISK_TRACE_ROOT"), *file = getenv("DISK_TRACE_FILE");
    if (!folder || !file || !realpath(folder, root))
        return;
    int opened = REAL(open)(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    trace = fcntl(opened, F_DUPFD_CLOEXEC, 900);
    REAL(close)(opened);
    append('S', 0, 0, "", 0, "", 0); /* a process starts */
}

/* Writes the whole path if it lies below the root; tells whether it does. */
static int below(int folder, const char *path, char *whole)
{
    char joined[2 * PATH_MAX + 2], parent[2 * PATH_MAX + 2];
    if (trace < 0 || !path)
        return 0;
    if (path[0] == '/') {
        snprintf(joined, sizeof joined, "%s", path);
    } else {
        char at[64], place[PATH_MAX] = "";
        snprintf(at, sizeof at, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        if (readlink(at, place, sizeof place - 1) < 0)
            return 0;
        snprintf(joined, sizeof joined, "%s/%s", place, path);
    }
    /* The name itself may be new, or a link: only its folder is resolved. */
    if (realpath(joined, whole) && strcmp(whole, root) == 0)
        return 1;
    char *slash = strrchr(joined, '/');
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - joined), joined);
    char resolved[PATH_MAX];
    if (!realpath(parent[0] ? parent : "/", resolved))
        return 0;
    if ((size_t)snprintf(whole, PATH_MAX, "%s%s", resolved, slash) >= PATH_MAX)
        return 0;
    size_t length = strlen(root);
    return strncmp(whole, root, length) == 0 && whole[length] == '/';
}

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    char whole[PATH_MAX];
    if (!below(folder, path, whole))
        return REAL(openat64)(folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat64 status;
    int was_there = REAL(fstatat64)(folder, path, &status, 0) == 0;
    int descriptor = REAL(openat64)(folder, path, flags, mode);
    if (descriptor >= 0 && descriptor < MOST_FILES) {
        watched[descriptor] = 1;
        append(was_there ? 'o' : 'O', descriptor, (uint64_t)(flags & O_TRUNC ? 1 : 0), whole,
               strlen(whole), "", 0);
    }
    pthread_mutex_unlock(&lock);
    return descriptor;
}

#define MODE(flags, last)                                                                          \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                         \
        va_list more;                                                                              \
        va_start(more, last);                                                                      \
        mode = va_arg(more, mode_t);                                                               \
        va_end(more);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(folder, path, flags, mode);
}

int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }

static int is_watched(int descriptor)
{
    return trace >= 0 && descriptor >= 0 && descriptor < MOST_FILES && watched[descriptor];
}

int close(int descriptor)
{
    if (!is_watched(descriptor))
        return REAL(close)(descriptor);
    pthread_mutex_lock(&lock);
    watched[descriptor] = 0;
    append('c', descriptor, 0, "", 0, "", 0);
    int result = REAL(close)(descriptor);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite64(int descriptor, const void *content, size_t length, off64_t offset)
{
    if (!is_watched(descriptor))
        return REAL(pwrite64)(descriptor, content, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t written = REAL(pwrite64)(descriptor, content, length, offset);
    if (written > 0)
        append('w', descriptor, (uint64_t)offset, content, (size_t)written, "", 0);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int descriptor, const void *content, size_t length, off_t offset)
{
    return pwrite64(descriptor, content, length, offset);
}

ssize_t write(int descriptor, const void *content, size_t length)
{
    if (!is_watched(descriptor))
        return REAL(write)(descriptor, content, length);
    pthread_mutex_lock(&lock);
    ssize_t written = REAL(write)(descriptor, content, length);
    if (written > 0) /* also of files opened for appending: where it ended, minus its length */
        append('w', descriptor,
               (uint64_t)(REAL(lseek64)(descriptor, 0, SEEK_CUR) - written), content,
               (size_t)written, "", 0);
    pthread_mutex_unlock(&lock);
    return written;
}

int ftruncate64(int descriptor, off64_t length)
{
    if (!is_watched(descriptor))
        return REAL(ftruncate64)(descriptor, length);
    pthread_mutex_lock(&lock);
    int result = REAL(ftruncate64)(descriptor, length);
    if (result == 0)
        append('t', descriptor, (uint64_t)length, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

static int synced(int descriptor, int (*original)(int))
{
    if (!is_watched(descriptor))
        return original(descriptor);
    pthread_mutex_lock(&lock);
    int result = original(descriptor);
    if (result == 0)
        append('s', descriptor, 0, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int descriptor) { return synced(descriptor, REAL(fsync)); }
int fdatasync(int descriptor) { return synced(descriptor, REAL(fdatasync)); }

static int named(char what, int folder, const char *path, int result_of_second, const char *second,
                 int flags)
{
    char whole[PATH_MAX], other[PATH_MAX] = "";
    int seen = below(folder, path, whole);
    if (second && below(result_of_second, second, other))
        seen = 1;
    if (seen)
        pthread_mutex_lock(&lock);
    int result = what == 'r'   ? REAL(renameat)(folder, path, result_of_second, second)
                 : what == 'l' ? REAL(linkat)(folder, path, result_of_second, second, flags)
                               : REAL(unlinkat)(folder, path, flags);
    if (seen) {
        if (result == 0)
            append(what, 0, 0, whole, strlen(whole), other, strlen(other));
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int rename(const char *path, const char *to)
{
    return named('r', AT_FDCWD, path, AT_FDCWD, to, 0);
}

int renameat(int folder, const char *path, int to_folder, const char *to)
{
    return named('r', folder, path, to_folder, to, 0);
}

int link(const char *path, const char *to) { return named('l', AT_FDCWD, path, AT_FDCWD, to, 0); }

int linkat(int folder, const char *path, int to_folder, const char *to, int flags)
{
    return named('l', folder, path, to_folder, to, flags);
}

int unlink(const char *path) { return named('u', AT_FDCWD, path, 0, NULL, 0); }

int unlinkat(int folder, const char *path, int flags)
{
    return named('u', folder, path, 0, NULL, flags);
}

/* Ends the process as SIGKILL does, between two calls and never within one. */
void disk_trace_kill(void)
{
    pthread_mutex_lock(&lock);
    raise(SIGKILL);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static long ahead_s = -1;
    if (ahead_s < 0) {
        const char *wanted = getenv("DISK_TRACE_AHEAD_S");
        ahead_s = wanted ? atol(wanted) : 0;
    }
    int result = REAL(clock_gettime)(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += ahead_s;
    return result;
}
