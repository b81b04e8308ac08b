// Syscalltrace prints the system calls of a Xen guest's processes as strace
// prints those of its own machine, without anything running in the guest.
//
//	syscalltrace -domain guest -pid 214
//
// It runs in dom0 and needs nothing but the guest: the kernel's symbols, types
// and system calls are read from the guest's memory.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	// See [xen.Monitor.Serve]: events are cheaper with a second one.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	// Ending without cleaning up would leave breakpoints in the guest. A
	// broken pipe is to be an error of the write, not the end.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
