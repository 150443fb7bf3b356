#!/bin/sh
# The first process of the guest.
export PATH=/usr/sbin:/usr/bin HOME=/root TERM=xterm AUDITTY_BINARIES=/usr/bin
export AUDITTY_PATIENCE=5
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
echo "VM init"
mkdir -p /dev/pts /dev/shm /run /tmp
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/sshd
mount -t bpf bpf /sys/fs/bpf
# `none voluntary (full)`, where the kernel has a choice.
mount -t debugfs debugfs /sys/kernel/debug
sed -n 's/.*(\(.*\)).*/VM preempt \1/p' /sys/kernel/debug/sched/preempt
umount /sys/kernel/debug
# A host has it mounted, a bare container may not: the kernel's command line
# decides whether the agent has to do it.
[ "$vm_tracefs" = agent ] || mount -t tracefs tracefs /sys/kernel/tracing
# Names for the kernel programs in /proc/kallsyms.
echo 1 >/proc/sys/net/core/bpf_jit_kallsyms
# A disk that outlives the guest, where one is wanted.
[ -z "$vm_power" ] || { mkdir /disk && mount -t ext4 /dev/nvme0n1 /disk; }
hostname guest
ip link set lo up
case "$vm_modes" in
# Where the units are tested, systemd starts the suite.
systemd) exec /lib/systemd/systemd ;;
# Where it is measured, the number of rounds stands in the place of tests.
bench)
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    AUDITTY_PROGRAMS=/usr/bin auditty-bench "$vm_tests" guest guest
    ;;
*) auditty-capture-suite ;;
esac
echo "the suite ended with $?"
sync
# What is left in the console's buffer would be lost.
sleep 0.3
echo o >/proc/sysrq-trigger
sleep 60
