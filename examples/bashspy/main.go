// Bashspy prints what is typed and printed in one session of a shell in a Xen
// guest: what the shell and the programs that it starts read from their terminal
// and write to it, as the guest's kernel passes it on.
//
//	bashspy -domain guest -comm bash
//
// What the guest prints cannot reach the terminal of who watches: control
// characters are shown as text.
package main

import (
	"context"
	"os"

	"github.com/govmi/govmi/examples/internal/session"
)

func main() {
	session.Main(func(ctx context.Context, args []string) int { return run(ctx, nil, args, os.Stdout, os.Stderr) })
}
