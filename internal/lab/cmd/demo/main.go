// Command demo runs in the lab's dom0: it starts a Linux guest, lets a bash in
// it run a small script beside two busy processes, traces only that bash with
// examples/syscalltrace, and compares the trace with what the guest itself
// says it did. It exits with status 0 only if the two agree.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	tracer := flag.String("tracer", "./syscalltrace", "the examples/syscalltrace program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *tracer, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
