// Command table1 measures the experiment of Taubmann and Reiser's Table 1.
//
//	table1 measure [flags]      runs in the lab's dom0 and writes raw data
//	table1 report  [flags] file...
//	                            makes the report of raw data, anywhere
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	// See [xen.Monitor.Serve]: events are cheaper with a second one.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "table1:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "measure":
		return measure(ctx, args)
	case "report":
		return report(args)
	}
	return errors.New("usage: table1 measure|report [flags]")
}
