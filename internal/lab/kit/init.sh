#!/bin/busybox sh
# init of the lab's guests: says GUEST READY on the console and then runs the
# commands that come in there, one a line:
#   N f COMMAND   run and wait
#   N b COMMAND   run in the background
#   N a BASE64    append to the script of number N
#   N F           run the script of number N and wait
#   N B           the same in the background
# A command's output stands between "@begin N PID" and "@end N STATUS".
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
hostname guest
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
cd /root
exec </dev/hvc0 >/dev/hvc0 2>&1
# A line is a line: no echo, nothing translated, no keys with a meaning.
stty -echo -icrnl -ixon -ixoff -isig -iexten -opost
# From here on the kernel says nothing but its last words.
echo 1 >/proc/sys/kernel/printk

job() { # N, arguments of bash
	n=$1
	shift
	bash "$@" </dev/null
	echo "@end $n $?"
}
echo "GUEST READY"
while :; do
	while IFS= read -r line; do
		n=${line%% *}
		rest=${line#* }
		mode=${rest%% *}
		text=${rest#* }
		script=/tmp/.command.$n
		case $mode in
		f) job "$n" -c "echo \"@begin $n \$\$\"; $text" ;;
		b) job "$n" -c "echo \"@begin $n \$\$\"; $text" & ;;
		a)
			[ -e "$script" ] || echo "echo \"@begin $n \$\$\"" >"$script"
			echo "$text" | base64 -d >>"$script"
			;;
		F) job "$n" "$script" ;;
		B) job "$n" "$script" & ;;
		*) echo "@unknown $line" ;;
		esac
	done
	sleep 1
done
