// Memwatch prints who in a Xen guest reads, writes or executes a range of its
// memory: the process, the instruction and the address.
//
//	memwatch -domain guest -symbol panic_timeout -len 4
//
// The frames of the range are closed to the guest in an altp2m view, and each
// access is stepped over in the guest's own, so that none is lost. Without altp2m
// they are closed for the whole domain. It needs an Intel processor. Of a program
// that was killed, recover takes the view and the ring away and opens the frames.
// Not run: guests of several vCPUs.
package main

import (
	"context"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, nil, args, os.Stdout, os.Stderr) })
}
