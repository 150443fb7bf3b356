/* Work of a known size, for the benchmarks: what it did per second or per call
 * is printed by itself, where the clock of a caller would count its start.
 *
 *   lines BYTES       text like that of a build, in blocks of 4 KiB
 *   small COUNT       lines of 40 bytes, one write each
 *   echo              gives each byte back, in raw mode, until q
 *   spawns COUNT [N]  /bin/true, by posix_spawn, in N processes
 *   forks COUNT       children that end at once
 *   calls             system calls: the fastest of many batches
 *   loopback COUNT    64 bytes there and back over TCP
 *   connects COUNT    connections that are made and closed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void put(int file, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(file, bytes, count);
        if (written < 0)
            fail("write");
        bytes += written;
        count -= written;
    }
}

static unsigned random_number(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Paths, numbers and words, of uneven length; the same each time. */
static size_t text_line(char *line, size_t room, unsigned *state, long number) {
    static const char *words[] = {"Compiling", "warning:", "unused", "checked", "src",
                                  "session", "open", "failed", "linked", "target"};
    int count = snprintf(line, room, "[%7ld] ", number);
    int more = 2 + random_number(state) % 9;
    for (int word = 0; word < more; word++)
        count += snprintf(line + count, room - count, "%s%c%04x", words[random_number(state) % 10],
                          word % 3 ? '/' : ' ', random_number(state) & 0xffff);
    count += snprintf(line + count, room - count, "\n");
    return count;
}

static void lines(long bytes) {
    static char block[4096 + 512];
    size_t filled = 0;
    unsigned state = 1;
    for (long done = 0, number = 1; done < bytes; number++) {
        size_t count = text_line(block + filled, sizeof block - filled, &state, number);
        filled += count;
        done += count;
        if (filled >= 4096 || done >= bytes) {
            put(1, block, filled);
            filled = 0;
        }
    }
}

static void small(long count) {
    char line[64];
    for (long number = 0; number < count; number++) {
        snprintf(line, sizeof line, "%038ld\n", number);
        put(1, line, 39);
    }
}

static void echo(void) {
    struct termios mode;
    if (tcgetattr(0, &mode) < 0)
        fail("tcgetattr");
    cfmakeraw(&mode);
    tcsetattr(0, TCSANOW, &mode);
    put(1, "go>", 3);
    char byte;
    while (read(0, &byte, 1) == 1 && byte != 'q')
        put(1, &byte, 1);
}

static void spawn_all(long count) {
    char *argv[] = {"/bin/true", NULL};
    for (long number = 0; number < count; number++) {
        pid_t child;
        if (posix_spawn(&child, argv[0], NULL, NULL, argv, environ) != 0)
            fail("posix_spawn");
        waitpid(child, NULL, 0);
    }
}

static void spawns(long count, long processes) {
    double begun = now();
    for (long number = 1; number < processes; number++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            spawn_all(count);
            _exit(0);
        }
    }
    spawn_all(count);
    while (wait(NULL) > 0)
        ;
    printf("rate %.3f\n", count * processes / (now() - begun));
}

static void forks(long count) {
    double begun = now();
    for (long number = 0; number < count; number++) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
    printf("rate %.3f\n", count / (now() - begun));
}

static void calls(void) {
    enum { BATCHES = 300, BATCH = 2000 };
    static const char *names[] = {"getppid", "read", "write", "open", "pipe"};
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    int ends[2];
    if (pipe(ends) < 0)
        fail("pipe");
    char byte = 0;
    for (int call = 0; call < 5; call++) {
        double best = 1;
        for (int batch = 0; batch < BATCHES; batch++) {
            double begun = now();
            for (int number = 0; number < BATCH; number++) {
                int done = 1;
                switch (call) {
                case 0:
                    syscall(SYS_getppid);
                    break;
                case 1:
                    done = read(zero, &byte, 1);
                    break;
                case 2:
                    done = write(null, &byte, 1);
                    break;
                case 3: /* and closes it */
                    done = close(open("/dev/null", O_RDONLY)) + 1;
                    break;
                case 4: /* there and back */
                    done = write(ends[1], &byte, 1) == 1 ? read(ends[0], &byte, 1) : 0;
                }
                if (done != 1)
                    fail(names[call]);
            }
            double taken = (now() - begun) / BATCH;
            if (taken < best)
                best = taken;
        }
        printf("%s %.3f\n", names[call], best * 1e9);
    }
}

static int listener(struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (bind(server, (void *)address, size) < 0 || listen(server, 128) < 0 ||
        getsockname(server, (void *)address, &size) < 0)
        fail("listen");
    return server;
}

static int reach(struct sockaddr_in *address) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (void *)address, sizeof *address) < 0)
        fail("connect");
    return client;
}

static void network(long count, int connect_each) {
    struct sockaddr_in address;
    int server = listener(&address);
    pid_t child = fork();
    if (child == 0) {
        char bytes[64];
        for (;;) {
            int peer = accept(server, NULL, NULL);
            while (recv(peer, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes)
                put(peer, bytes, sizeof bytes);
            close(peer);
        }
    }
    char bytes[64] = {0};
    double begun = now();
    int client = connect_each ? -1 : reach(&address);
    for (long number = 0; number < count; number++) {
        if (connect_each) {
            close(reach(&address));
            continue;
        }
        put(client, bytes, sizeof bytes);
        if (recv(client, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
            fail("recv");
    }
    printf("rate %.3f\n", count / (now() - begun));
    kill(child, SIGKILL);
}

int main(int count, char **words) {
    const char *work = count > 1 ? words[1] : "";
    long size = count > 2 ? atol(words[2]) : 0;
    if (!strcmp(work, "lines"))
        lines(size);
    else if (!strcmp(work, "small"))
        small(size);
    else if (!strcmp(work, "echo"))
        echo();
    else if (!strcmp(work, "spawns"))
        spawns(size, count > 3 ? atol(words[3]) : 1);
    else if (!strcmp(work, "forks"))
        forks(size);
    else if (!strcmp(work, "calls"))
        calls();
    else if (!strcmp(work, "loopback"))
        network(size, 0);
    else if (!strcmp(work, "connects"))
        network(size, 1);
    else
        return 2;
    return 0;
}
