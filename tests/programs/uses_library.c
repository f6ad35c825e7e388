/* Imports a function of the module named `library`: see library.c. */
#include <stdio.h>

__attribute__((import_module("library"), import_name("triple"))) int triple(int number);

int main(void) {
    printf("%d\n", triple(14));
    return 0;
}
