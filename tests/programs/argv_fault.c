/* Executes echo with an argument in a page that does not exist yet: the kernel
 * asks a thread of ours for it (userfaultfd) while it is inside execve, and the
 * thread takes its time. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int faults;
static char *page;

static void *serve(void *nothing)
{
    static char content[4096] __attribute__((aligned(4096))) = "EVIL";
    struct uffd_msg message;
    if (read(faults, &message, sizeof message) != sizeof message)
        return nothing;
    usleep(500000);
    struct uffdio_copy copy = {
        .dst = (unsigned long)page, .src = (unsigned long)content, .len = 4096};
    ioctl(faults, UFFDIO_COPY, &copy);
    return nothing;
}

int main(void)
{
    faults = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api))
        return 3;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register area = {
        .range = {.start = (unsigned long)page, .len = 4096},
        .mode = UFFDIO_REGISTER_MODE_MISSING};
    pthread_t server;
    if (ioctl(faults, UFFDIO_REGISTER, &area) || pthread_create(&server, NULL, serve, NULL))
        return 4;
    execl("/bin/echo", "echo", page, NULL);
    return 5;
}
