/* Answers of another run of a program. This library is preloaded, and answers in place of the C
   library when a process asks for the time, random bytes, its id, the host or its limits.

   The answers are the same in each run, except for those that the file SETTINGS names: it contains
   the kinds of answers that differ, and the stages in which they differ.  The process reports its
   stages by getsid() with a negative number, which the kernel would refuse.  So the memory of the
   process itself does not differ.  System calls that do not use the C library are not changed. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { CLOCK = 1, RANDOM = 2, PROCESS = 4, SYSTEM = 8, LIMITS = 16 };

/* No stage, or all stages. */
enum { NO_STAGE = 0, ALL_STAGES = -1, MOST_STAGES = 1000 };

static int kinds, differs, count;
static int wanted[MOST_STAGES];
static pid_t first;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define KERNEL(...) (REAL(syscall)(__VA_ARGS__))

__attribute__((constructor)) static void begin(void) {
    first = KERNEL(SYS_getpid);
    char text[10 * MOST_STAGES] = "", *rest = text, *last;
    int file = KERNEL(SYS_openat, AT_FDCWD, SETTINGS, O_RDONLY);
    if (read(file, text, sizeof(text) - 1) > 0) {
        kinds = strtol(text, &rest, 10);
    }
    close(file);
    for (count = 0; count < MOST_STAGES; count++, rest = last) {
        wanted[count] = strtol(rest, &last, 10);
        if (last == rest) {
            break;
        }
    }
}

static int is_wanted(int stage) {
    for (int i = 0; i < count; i++) {
        if (wanted[i] == stage || wanted[i] == ALL_STAGES) {
            return stage != NO_STAGE;
        }
    }
    return 0;
}

pid_t getsid(pid_t process) {
    if (process < 0) {
        differs = is_wanted(-1 - process) ? kinds : 0;
        /* The process could keep errno, too. */
        errno = 0;
        return 0;
    }
    return KERNEL(SYS_getsid, process);
}

/* Each question takes a millisecond.  The times are in the past, so code that waits until a time
   does not wait for long. */
static struct timespec now(clockid_t clock) {
    static atomic_long questions;
    long passed = ++questions;
    int is_date = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
    struct timespec time = {is_date ? 1719837296 : 50, 1000000 * (passed % 1000) + 1357};
    time.tv_sec += passed / 1000;
    if (differs & CLOCK) {
        /* Another year, day of the week and hour. */
        time.tv_sec += is_date ? 400 * 86400 + 7 * 3600 : 23;
        time.tv_nsec = (time.tv_nsec + 123456) % 1000000000;
    }
    return time;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    *time = now(clock);
    return 0;
}

int timespec_get(struct timespec *time, int base) {
    *time = now(CLOCK_REALTIME);
    return base;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec found = now(CLOCK_REALTIME);
    if (zone != NULL) {
        memset(zone, 0, sizeof(struct timezone));
    }
    time->tv_sec = found.tv_sec;
    time->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    time_t found = now(CLOCK_REALTIME).tv_sec;
    if (place != NULL) {
        *place = found;
    }
    return found;
}

clock_t clock(void) {
    struct timespec found = now(CLOCK_PROCESS_CPUTIME_ID);
    return found.tv_sec * CLOCKS_PER_SEC + found.tv_nsec / 1000;
}

static void fill(void *place, size_t length) {
    static atomic_ulong made;
    for (size_t i = 0; i < length; i++) {
        /* splitmix64 */
        uint64_t bits = 0x9e3779b97f4a7c15 * ++made;
        bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
        bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
        ((unsigned char *)place)[i] = (bits >> 40) ^ (differs & RANDOM ? 0x5a : 0);
    }
}

ssize_t getrandom(void *place, size_t length, unsigned flags) {
    (void)flags;
    fill(place, length);
    return length;
}

int getentropy(void *place, size_t length) {
    fill(place, length);
    return 0;
}

uint32_t arc4random(void) {
    uint32_t found;
    fill(&found, sizeof(found));
    return found;
}

void arc4random_buf(void *place, size_t length) { fill(place, length); }

uint32_t arc4random_uniform(uint32_t end) { return end == 0 ? 0 : arc4random() % end; }

/* A file of random bytes, or -1 for other paths. */
static int random_file(const char *path) {
    if (path == NULL || (strcmp(path, "/dev/urandom") != 0 && strcmp(path, "/dev/random") != 0)) {
        return -1;
    }
    char bytes[1 << 16];
    fill(bytes, sizeof(bytes));
    int file = memfd_create("random", MFD_CLOEXEC);
    if (write(file, bytes, sizeof(bytes)) < 0) {
        return -1;
    }
    lseek(file, 0, SEEK_SET);
    return file;
}

#define OPEN(name, head, ...)                                                                       \
    int name(head const char *path, int flags, ...) {                                               \
        va_list rest;                                                                               \
        va_start(rest, flags);                                                                      \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;                           \
        va_end(rest);                                                                               \
        int file = random_file(path);                                                               \
        return file >= 0 ? file : REAL(name)(__VA_ARGS__ path, flags, mode);                        \
    }
#define COMMA ,
OPEN(open, , )
OPEN(open64, , )
OPEN(openat, int directory COMMA, directory COMMA)
OPEN(openat64, int directory COMMA, directory COMMA)

FILE *fopen(const char *restrict path, const char *restrict mode) {
    int file = random_file(path);
    return file >= 0 ? fdopen(file, "rb") : REAL(fopen)(path, mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode) {
    int file = random_file(path);
    return file >= 0 ? fdopen(file, "rb") : REAL(fopen64)(path, mode);
}

/* Only the id of the first process is replaced, not the ids of its children. */
static pid_t known(pid_t real) {
    if (real != first) {
        return real;
    }
    return differs & PROCESS ? 2817403 : 2403511;
}

pid_t getpid(void) { return known(KERNEL(SYS_getpid)); }

pid_t gettid(void) { return known(KERNEL(SYS_gettid)); }

int uname(struct utsname *names) {
    int result = REAL(uname)(names);
    strcpy(names->nodename, differs & SYSTEM ? "other-host" : "first-host");
    strcpy(names->release, differs & SYSTEM ? "9.8.7-other" : "6.5.4-first");
    strcpy(names->version, differs & SYSTEM ? "#9 SMP Tue Aug 5" : "#1 SMP Mon Jul 1");
    return result;
}

int gethostname(char *name, size_t length) {
    struct utsname names;
    uname(&names);
    strncpy(name, names.nodename, length);
    return 0;
}

static void limit(int resource, struct rlimit *found) {
    if (resource == RLIMIT_NOFILE && found != NULL) {
        found->rlim_cur = differs & LIMITS ? 777 : 1000;
    }
}

int prlimit(pid_t process, __rlimit_resource_t resource, const struct rlimit *new,
            struct rlimit *old) {
    int result = KERNEL(SYS_prlimit64, process, resource, new, old);
    limit(resource, old);
    return result;
}

int prlimit64(pid_t process, __rlimit_resource_t resource, const struct rlimit64 *new,
              struct rlimit64 *old) {
    return prlimit(process, resource, (const struct rlimit *)new, (struct rlimit *)old);
}

int getrlimit(__rlimit_resource_t resource, struct rlimit *found) {
    return prlimit(0, resource, NULL, found);
}

int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *found) {
    return prlimit64(0, resource, NULL, found);
}

long sysconf(int name) {
    struct rlimit files = {0, 0};
    limit(RLIMIT_NOFILE, &files);
    return name == _SC_OPEN_MAX ? (long)files.rlim_cur : REAL(sysconf)(name);
}

long syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    long words[6];
    for (int i = 0; i < 6; i++) {
        words[i] = va_arg(rest, long);
    }
    va_end(rest);
    switch (number) {
    case SYS_getrandom:
        return getrandom((void *)words[0], words[1], words[2]);
    case SYS_clock_gettime:
        return clock_gettime(words[0], (struct timespec *)words[1]);
    case SYS_getpid:
        return getpid();
    case SYS_gettid:
        return gettid();
    default:
        return KERNEL(number, words[0], words[1], words[2], words[3], words[4], words[5]);
    }
}
