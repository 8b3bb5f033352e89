// Counts allocations of at least LARGE_BYTES from the time on that this variable is in the
// environment (`shell putenv` of LAMMPS), but for those of MPI and the libraries it sends with:
// they keep messages that come before they are waited for, as many as chance brings. At the end of
// the process the count goes to a file of its own in the folder LARGE_COUNTS. To be preloaded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "count_file.h"

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static long count = 0;

static int is_mpi(const void *caller) {
    static const char *const names[] = {"/libmpi", "/libuc", "/libfabric", "/libopen-", "/mca_"};
    Dl_info library;
    if (dladdr(caller, &library) == 0) {
        return 0;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        if (strstr(library.dli_fname, names[i]) != NULL) {
            return 1;
        }
    }
    return 0;
}

static void note(size_t bytes, const void *caller) {
    if (bytes < 512) {
        return;  // far below what anyone asks for here, and looked up too often
    }
    const char *least = getenv("LARGE_BYTES");
    if (least != NULL && bytes >= strtoul(least, NULL, 10) && !is_mpi(caller)) {
        __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    }
}

void *malloc(size_t bytes) {
    note(bytes, __builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    note(n * bytes, __builtin_return_address(0));
    return __libc_calloc(n, bytes);
}

void *realloc(void *old, size_t bytes) {
    note(bytes, __builtin_return_address(0));
    return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    note(bytes, __builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    note(bytes, __builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **result, size_t alignment, size_t bytes) {
    note(bytes, __builtin_return_address(0));
    *result = __libc_memalign(alignment, bytes);
    return *result == NULL ? 12 : 0;
}

__attribute__((destructor)) static void finish(void) { write_count("LARGE_COUNTS", count); }
