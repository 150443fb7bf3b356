/* Executes /bin/true with no arguments and no environment at all. */
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    return (int)syscall(SYS_execve, "/bin/true", NULL, NULL);
}
