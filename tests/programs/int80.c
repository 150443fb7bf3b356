/* A 32-bit program without a C library: executes echo by interrupt 0x80, where
 * execve has another number than in 64-bit programs. */
static const char *const arguments[] = {"echo", "from", "32", "bits", 0};

void _start(void)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(11), "b"("/bin/echo"), "c"(arguments), "d"(0)
                     : "memory");
    __asm__ volatile("int $0x80" : : "a"(1), "b"(1));
    __builtin_unreachable();
}
