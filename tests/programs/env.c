/* Writes the environment, one NAME=value a line; with arguments, only the values of the variables so named. */
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc == 1) {
        for (char **entry = environ; entry && *entry; entry++) puts(*entry);
        return 0;
    }
    for (int i = 1; i < argc; i++) {
        const char *value = getenv(argv[i]);
        if (!value) return 1;
        puts(value);
    }
    return 0;
}
