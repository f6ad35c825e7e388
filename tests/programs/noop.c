/* Does nothing: what a job costs by itself. */
int main(void) { return 0; }
