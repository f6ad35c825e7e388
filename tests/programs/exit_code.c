/* Writes a line, then ends with the exit code given as its argument. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int code = argc > 1 ? atoi(argv[1]) : 1;
    printf("exiting with %d\n", code);
    return code;
}
