// Funcgraph prints which functions of a Xen guest's kernel call which, and how
// long they take, as ftrace's function_graph does within a machine, for one
// process and without anything running in the guest.
//
//	funcgraph -domain guest -pid 214 -func 'vfs_*,ksys_*'
//
// Each function has breakpoints at its entry and at the instructions that it ends
// by, which are found in its code: no return address is changed. A function whose
// code does not tell them for certain, and one that the kernel's own probes keep
// out of, is refused.
package main

import (
	"context"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, nil, args, os.Stdout, os.Stderr) })
}
