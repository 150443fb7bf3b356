/* Executes itself COUNT times with an argument that lies in a shared page:
 *   race   another process keeps changing it between GOOD and EVIL;
 *   absent the executing process has never touched the page.
 * What runs prints its number, the argument it really got, and what stood
 * there just before the execve. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void change_for_ever(volatile uint32_t *word)
{
    uint32_t good, evil;
    memcpy(&good, "GOOD", 4);
    memcpy(&evil, "EVIL", 4);
    for (;;) {
        *word = evil;
        *word = good;
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[0], "witness"))
        return printf("%s %s %s\n", argv[1], argv[2], argv[3]) < 0;
    if (argc != 3)
        return 2;
    int race = !strcmp(argv[1], "race"), count = atoi(argv[2]);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return 1;
    strcpy(page, "GOOD");
    pid_t changer = race ? fork() : -1;
    if (changer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        change_for_ever((volatile uint32_t *)page);
    }
    for (int number = 0; number < count; number++) {
        pid_t child = fork();
        if (child < 0)
            return 1;
        if (child == 0) {
            char name[16], seen[8] = "-";
            snprintf(name, sizeof name, "%d", number);
            if (race)
                memcpy(seen, page, 4);
            execl("/proc/self/exe", "witness", name, page, seen, NULL);
            _exit(127);
        }
        if (waitpid(child, NULL, 0) != child)
            return 1;
    }
    if (race)
        kill(changer, SIGKILL);
    return 0;
}
