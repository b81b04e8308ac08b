// Uprobe prints the calls of functions of a program or a library by one process of
// a Xen guest, with their arguments and what they return.
//
//	uprobe -domain guest -comm bash -file libc.so.6 -func malloc,free -ret
//
// The functions are found in the file as the guest has it in memory, and watched
// before the process has touched them, in pages that it has changed, and where it
// maps the file next; package breakpoint/user tells how. Nothing of the guest is
// changed, also not for the other processes that use the file. It needs an Intel
// processor.
package main

import (
	"context"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, nil, args, os.Stdout, os.Stderr) })
}
