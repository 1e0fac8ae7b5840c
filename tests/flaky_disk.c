/* Preloaded, lets the next calls of one kind on files of one name fail, as a shared file system does now and then. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char kind[16], part[256];
static int number, left;

void flaky_arm(const char *call, const char *name, int error, int times) {
    snprintf(kind, sizeof kind, "%s", call);
    snprintf(part, sizeof part, "%s", name);
    number = error;
    left = times;
}

int flaky_left(void) { return left; }

static int fails(const char *call, const char *path) {
    if (left <= 0 || strcmp(call, kind) || !strstr(path, part)) return 0;
    left--;
    errno = number;
    return 1;
}

static int fails_at(const char *call, int file) {
    char link[64], path[4096];
    if (left <= 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return fails(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                  \
    int name(const char *path, int flags, ...) {    \
        va_list rest;                               \
        va_start(rest, flags);                      \
        int mode = va_arg(rest, int);               \
        va_end(rest);                               \
        if (fails("open", path)) return -1;         \
        return REAL(name)(path, flags, mode);       \
    }
OPEN(open)
OPEN(open64)

ssize_t read(int file, void *data, size_t size) {
    return fails_at("read", file) ? -1 : REAL(read)(file, data, size);
}

ssize_t pread(int file, void *data, size_t size, off_t at) {
    return fails_at("pread", file) ? -1 : REAL(pread)(file, data, size, at);
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    return fails_at("pread", file) ? -1 : REAL(pread64)(file, data, size, at);
}

ssize_t write(int file, const void *data, size_t size) {
    if (!fails_at("write", file)) return REAL(write)(file, data, size);
    REAL(write)(file, data, size / 2); /* what has come to the disk before it failed stays there */
    errno = number;
    return -1;
}

int fsync(int file) { return fails_at("fsync", file) ? -1 : REAL(fsync)(file); }

int rename(const char *from, const char *to) { return fails("rename", from) ? -1 : REAL(rename)(from, to); }

int mkdir(const char *path, mode_t mode) { return fails("mkdir", path) ? -1 : REAL(mkdir)(path, mode); }
