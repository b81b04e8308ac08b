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

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, nil, args, os.Stdout, os.Stderr) })
}
