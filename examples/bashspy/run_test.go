package main

import (
	"context"
	"io"
	"testing"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
)

func TestUsage(t *testing.T) {
	refused := sessiontest.Refusing(t, func(ctx context.Context, args []string, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	refused("-domain is missing")
	refused(`unexpected argument "extra"`, "-domain", "g", "extra")
	refused("one of -pid and -comm", "-domain", "g")
	refused("one of -pid and -comm", "-domain", "g", "-pid", "1", "-comm", "sh")
	refused("-pid -1", "-domain", "g", "-pid", "-1")
	refused("-comm is empty", "-domain", "g", "-comm", "")
}
