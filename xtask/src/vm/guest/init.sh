#!/bin/busybox sh
# The first process of the guest.
export PATH=/usr/sbin:/usr/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
echo "VM init"
mkdir -p /dev/pts /run /tmp
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
# A host has it mounted, a bare container may not: the kernel's command line
# decides whether the agent has to do it.
[ "$vm_tracefs" = agent ] || mount -t tracefs tracefs /sys/kernel/tracing
# Names for the kernel programs in /proc/kallsyms.
echo 1 >/proc/sys/net/core/bpf_jit_kallsyms
hostname guest
ip link set lo up
chown 1000:1000 /home/tester
/suite.sh
echo "VM done"
sync
# What is left in the console's buffer would be lost.
sleep 0.3
echo o >/proc/sysrq-trigger
sleep 60
