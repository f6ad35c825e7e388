/* Writes to a file below the output folder given as its argument (default /outputs) until it cannot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char block[1 << 20];

int main(int argc, char **argv) {
    char path[1024];
    snprintf(path, sizeof path, "%s/filler", argc > 1 ? argv[1] : "/outputs");
    memset(block, 'x', sizeof block);
    FILE *file = fopen(path, "w");
    /* 64 GiB at most, 10 ms a MiB: a limit that does not hold must not take the machine's disk with it at once. */
    for (int i = 0; file && i < 65536; i++) {
        if (fwrite(block, 1, sizeof block, file) != sizeof block || fflush(file) != 0) break;
        usleep(10000);
    }
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
}
