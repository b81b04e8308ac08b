//go:build lab

package breakpoint_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/xen"
)

// One hit, from the guest's int3 to the next: a process that does nothing but
// make the call. In the VMX lane, whose clock counts instructions, 10 ns are one
// instruction of guest, Xen, dom0 and monitor.
func BenchmarkLabHit(b *testing.B) {
	ctx := b.Context()
	g := labtest.SharedGuest(b, labtest.Ordinary())
	s, err := attach(g.Name())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const settle = 100 // hits before the clock starts
	loop, stop := context.WithCancel(ctx)
	defer stop()
	n := 0
	err = s.insert(getppid, func(*xen.Request) xen.Response {
		// Not b.Loop: the guest sets the pace.
		switch n++; n {
		case settle:
			b.ResetTimer()
		case settle + b.N:
			b.StopTimer()
			stop()
		}
		return xen.Response{}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	done := make(chan error, 1)
	go func() { done <- s.loop.Run(loop) }()
	busy := g.Start(ctx, "exec workload busy -kinds getppid -spin 0")
	if err := <-done; !errors.Is(err, context.Canceled) {
		b.Errorf("loop: %v", err)
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	g.MustExec(ctx, fmt.Sprintf("kill -TERM %d", busy.PID()))
	busy.Wait(ctx)
}
