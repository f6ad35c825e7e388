/* Takes memory, a MiB at a time and touched, until there is none; says how much it had, and ends with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Volatile, for otherwise the compiler leaves out memory that nothing reads. */
static char *volatile block;

int main(void) {
    unsigned taken = 0;
    while ((block = malloc(1 << 20)) != NULL) {
        memset(block, 1, 1 << 20);
        taken++;
    }
    fprintf(stderr, "no memory after %u MiB\n", taken);
    return 1;
}
