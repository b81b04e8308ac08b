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

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, args, os.Stdout, os.Stderr) })
}
