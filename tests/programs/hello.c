/* One line on each stream. */
#include <stdio.h>

int main(void) {
    puts("Hello World");
    fputs("hello, stderr\n", stderr);
    return 0;
}
