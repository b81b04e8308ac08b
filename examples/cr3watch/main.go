// Cr3watch prints when a Xen guest switches to and from chosen processes, without
// anything running in the guest.
//
//	cr3watch -domain guest -pid 214,215
//
// It runs in dom0. On a Xen with this module's patches the hypervisor filters,
// and the guest's other switches do not come to the program.
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
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	status := run(ctx, nil, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
