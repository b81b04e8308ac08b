// Recover brings a Xen guest back whose monitor was killed: kill -9, the
// out-of-memory killer, a bug.
//
//	recover -domain guest
//
// It runs in dom0 and takes what the monitor did to the guest from its journal,
// see package breakpoint/journal. The exit status is 0 if the guest is as if there
// had been no monitor, 1 if it is not and the message says why, 2 for a wrong
// command line, and 3 if the monitor is alive, which needs no recovery but an end.
package main

import (
	"context"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(_ context.Context, args []string) int { return run(nil, args, os.Stdout, os.Stderr) })
}
