/* Copies the files named to stdout; a folder's files in the order of their names; without arguments, /inputs. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int fail(const char *path) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return 1;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int copy_file(const char *path) {
    char buffer[65536];
    size_t length;
    FILE *file = fopen(path, "rb");
    if (!file) return fail(path);
    while ((length = fread(buffer, 1, sizeof buffer, file)) > 0) fwrite(buffer, 1, length, stdout);
    int failed = ferror(file);
    fclose(file);
    return failed ? fail(path) : 0;
}

static int copy(const char *path) {
    struct stat status;
    struct dirent **entries;
    if (stat(path, &status) != 0) return fail(path);
    if (!S_ISDIR(status.st_mode)) return copy_file(path);
    int count = scandir(path, &entries, NULL, by_name);
    if (count < 0) return fail(path);
    int failed = 0;
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            char *child = malloc(strlen(path) + strlen(name) + 2);
            sprintf(child, "%s/%s", path, name);
            failed |= copy(child);
            free(child);
        }
        free(entries[i]);
    }
    free(entries);
    return failed;
}

int main(int argc, char **argv) {
    int failed = 0;
    if (argc == 1) return copy("/inputs");
    for (int i = 1; i < argc; i++) failed |= copy(argv[i]);
    return failed;
}
