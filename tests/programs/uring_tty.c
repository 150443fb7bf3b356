/* Writes to its standard output and reads from its standard input by io_uring,
 * without a read or write system call, then writes what it read. */
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static char *queue;
static struct io_uring_sqe *entries;
static struct io_uring_params params;

static int submit(int operation, int fd, char *bytes, unsigned length)
{
    unsigned *tail = (unsigned *)(queue + params.sq_off.tail);
    unsigned mask = *(unsigned *)(queue + params.sq_off.ring_mask), index = *tail & mask;
    memset(&entries[index], 0, sizeof entries[index]);
    entries[index].opcode = operation;
    entries[index].fd = fd;
    entries[index].addr = (uintptr_t)bytes;
    entries[index].len = length;
    entries[index].off = (uint64_t)-1;
    ((unsigned *)(queue + params.sq_off.array))[index] = index;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return -1;
    unsigned *head = (unsigned *)(queue + params.cq_off.head);
    unsigned last = *head & *(unsigned *)(queue + params.cq_off.ring_mask);
    int result = ((struct io_uring_cqe *)(queue + params.cq_off.cqes))[last].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(void)
{
    char asked[] = "asked by io_uring> ", got[256] = "got by io_uring: ";
    ring = syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0 || !(params.features & IORING_FEAT_SINGLE_MMAP))
        return 3;
    unsigned submissions = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    unsigned completions = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    queue = mmap(NULL, submissions > completions ? submissions : completions,
                 PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    entries = mmap(NULL, params.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED,
                   ring, IORING_OFF_SQES);
    if (queue == MAP_FAILED || entries == MAP_FAILED)
        return 4;
    unsigned start = strlen(got);
    if (submit(IORING_OP_WRITE, 1, asked, strlen(asked)) < 0)
        return 5;
    int length = submit(IORING_OP_READ, 0, got + start, sizeof got - start);
    if (length < 0)
        return 6;
    return submit(IORING_OP_WRITE, 1, got, start + (unsigned)length) < 0;
}
