/* A module for others to import from: see uses_library.c. */
__attribute__((export_name("triple"))) int triple(int number) { return 3 * number; }
