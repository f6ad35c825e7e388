/* A line, a sleep of so many seconds (the argument; default 3), another line: is the first seen while it sleeps? */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    puts("before the sleep");
    fflush(stdout);
    sleep(argc > 1 ? (unsigned)atoi(argv[1]) : 3);
    puts("after the sleep");
    return 0;
}
