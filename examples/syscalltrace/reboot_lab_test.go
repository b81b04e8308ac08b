//go:build lab

package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// When a guest reboots, and the toolstack makes it anew with another number, the
// tracer of the old one ends and says so; it leaves nothing that concerns the new
// one, which can be traced by the same name.
func TestLabRebooted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g := labtest.StartGuest(t, guest.Spec{AltP2M: labtest.VMX(), Restarts: true})
	trace := func(g *labtest.Guest) (p *sessiontest.Program, ended chan int) {
		t.Helper()
		busy := g.Start(ctx, "exec workload busy -kinds getppid,getuid -spin 10000")
		busy.WaitLine(ctx, regexp.MustCompile(`busy ready pid=`))
		ended = make(chan int, 1)
		p = sessiontest.Start(t, "tracing", func(ctx context.Context, out, msg io.Writer) int {
			status := run(ctx, []string{"-domain", g.Name(), "-pid", fmt.Sprint(busy.PID())}, out, msg)
			ended <- status
			return status
		})
		p.Out.Await(t, "getppid", 20)
		return p, ended
	}
	old, ended := trace(g)
	next := labtest.RebootGuest(t, g)
	if next.DomID() == g.DomID() {
		t.Errorf("the new domain has the number %d, too", g.DomID())
	}
	select {
	case status := <-ended:
		if msg := old.Msg.String(); status != 1 || !regexp.MustCompile(`: (no such domain|the domain has been destroyed)`).MatchString(msg) {
			t.Errorf("status %d: %s", status, msg)
		}
	case <-ctx.Done():
		t.Fatal("the tracer goes on")
	}
	t.Log(strings.TrimSpace(old.Msg.String()))

	h, err := xen.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d, err := h.Domain(next.DomID())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := session.Recover(d, nil); err != nil || !r.Nothing() {
		t.Errorf("left for the new one: %+v, %v", r, err)
	}
	p, _ := trace(next)
	p.Stop()
	p.Lossless()
}
