#!/bin/busybox sh
# init of the lab's dom0: prepares what Xen's tools expect, starts them and
# hands over to the agent. When the agent ends, so does the machine.
die() {
	echo "GOVMI-DOM0-FAILED: $*"
	sync
	poweroff -f
}
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts || die "no devpts" # xenconsoled needs it
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=100% tmpfs /tmp
mkdir -p /run/xen /run/xenstored /run/lock /run/govmi
export HOME=/root TERM=${TERM:-linux}
PATH=$(cat /etc/xen-tools-dir):/sbin:/usr/sbin:/bin:/usr/bin:/lab/bin
export PATH
hostname dom0
ifconfig lo 127.0.0.1 2>/dev/null
while read -r module; do
	insmod "$module" || die "cannot load $module"
done </etc/modules-order
mount -t xenfs xenfs /proc/xen || die "no xenfs: this is not a dom0"
echo 2 >/proc/sys/kernel/printk
xenstored || die "xenstored does not start"
xen-init-dom0 || die "xen-init-dom0 failed"
xenconsoled --log=guest --log-dir=/var/log/xen || die "xenconsoled does not start"
echo "GOVMI-DOM0-READY"
agent
die "agent ended with status $?"
