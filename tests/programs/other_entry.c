/* Two entry points: `_start`, and `greet`, which takes and returns nothing. */
#include <stdio.h>

__attribute__((export_name("greet"))) void greet(void) {
    puts("greetings");
    fflush(stdout);
}

int main(void) {
    puts("started");
    return 0;
}
