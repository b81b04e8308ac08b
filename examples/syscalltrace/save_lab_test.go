//go:build lab

package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
)

// A guest that is saved while it is traced is without breakpoints by then, and goes
// on when it is restored, with another number and nobody who would handle them: its
// kernel is as before, by its own word, and its processes make the calls that were
// traced.
func TestLabSaved(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g := labtest.StartGuest(t, guest.Spec{AltP2M: labtest.VMX()})
	sum := strings.TrimSpace(g.MustExec(ctx, "workload textsum"))
	busy := g.Start(ctx, "exec workload busy -kinds getppid,getuid -spin 10000")
	busy.WaitLine(ctx, regexp.MustCompile(`busy ready pid=`))
	var status int
	ended := make(chan struct{})
	p := sessiontest.Start(t, "tracing", func(ctx context.Context, out, msg io.Writer) int {
		defer close(ended)
		status = run(ctx, []string{"-domain", g.Name(), "-pid", fmt.Sprint(busy.PID())}, out, msg)
		return status
	})
	p.Out.Await(t, "getppid", 20)
	file := filepath.Join(t.TempDir(), "saved")
	g.Save(ctx, file)
	select {
	case <-ended:
	case <-ctx.Done():
		t.Fatal("the tracer goes on")
	}
	if msg := p.Msg.String(); status != 1 || !strings.Contains(msg, "is being saved") {
		t.Errorf("status %d: %s", status, msg)
	}
	t.Log(strings.TrimSpace(p.Msg.String()))

	r := labtest.RestoreGuest(t, g.Name(), file)
	if r.DomID() == g.DomID() {
		t.Errorf("the restored domain has the number %d, too", r.DomID())
	}
	if now := strings.TrimSpace(r.MustExec(ctx, "workload textsum")); now != sum {
		t.Errorf("kernel text %s, before %s", now, sum)
	}
	// The same process, in a domain that has to be found anew.
	again := start(t, "-domain", r.Name(), "-pid", fmt.Sprint(busy.PID()))
	again.Out.Await(t, "getppid", 20)
	again.Stop()
	again.Lossless()
	r.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
}
