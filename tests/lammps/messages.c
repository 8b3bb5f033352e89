// Counts the bytes that a process sends to others one by one; at its end the count goes to a file
// of its own in the folder SENT_BYTES. To be preloaded.
#include <mpi.h>

#include "count_file.h"

static long sent = 0;

int MPI_Send(const void *buffer, int n, MPI_Datatype type, int target, int tag, MPI_Comm world) {
    int bytes = 0;
    PMPI_Type_size(type, &bytes);
    sent += (long)n * bytes;
    return PMPI_Send(buffer, n, type, target, tag, world);
}

__attribute__((destructor)) static void finish(void) { write_count("SENT_BYTES", sent); }
