package session

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// Main runs a program until it ends or a signal asks it to, and exits with its
// status. Ending without cleaning up would leave the guest with breakpoints or a
// vCPU that waits.
func Main(run func(ctx context.Context, args []string) int) {
	// See [xen.Monitor.Serve]: events are cheaper with a second one.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	// A broken pipe is to be an error of the write, not the end.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	status := run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// Guarded turns a panic of f into an error, so that the guest is restored.
func Guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}
