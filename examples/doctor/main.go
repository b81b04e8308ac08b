// Doctor says what introspection this host and its domains allow, and what to
// change for more.
//
//	doctor [-domain guest] [-json]
//
// It runs in dom0 and changes nothing: neither Xen nor a guest notices, but for
// the moment in which registers are read. Its exit status is
//
//	0  the host and all domains looked at can be introspected
//	1  it could not find out
//	2  wrong command line
//	3  the host cannot be used for introspection
//	4  a domain cannot be introspected
//
// What works, but could work better, is "limited" and does not change the status.
package main

import (
	"context"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, nil, args, os.Stdout, os.Stderr) })
}
