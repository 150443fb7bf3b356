/* claim_pid PID PROGRAM ARGUMENT…: runs the program as the process PID, which
 * must be free. Needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. */
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    pid_t wanted = atoi(argv[1]);
    struct clone_args how = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
    long child = syscall(SYS_clone3, &how, sizeof how);
    if (child < 0)
        return 3;
    if (child == 0) {
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int status;
    waitpid((pid_t)child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
