/* Writes a file and a file in a folder below the output folder given as its argument (default /outputs). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int write_file(const char *folder, const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "/outputs";
    char below[1024];
    snprintf(below, sizeof below, "%s/below", folder);
    if (mkdir(below, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "%s: %s\n", below, strerror(errno));
        return 1;
    }
    return write_file(folder, "result.txt", "a result\n") | write_file(below, "more.txt", "more of it\n");
}
