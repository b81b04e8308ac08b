//go:build lab

package cr3filter_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// probing puts a probe of the guest's own on getuid, lets it be hit and takes it
// away: the kernel patches its text, which the bash runs in a view.
const probing = `read -r go </tmp/probing.begin
cd /tmp/tracing
echo 'p:govmi __x64_sys_getuid' >kprobe_events
echo 1 >events/kprobes/govmi/enable
workload calls -kind getuid -n 7
echo "profile: $(<kprobe_profile)"
echo 0 >events/kprobes/govmi/enable
echo >kprobe_events
exec workload calls -kind getppid -n 5`

// probing starts a bash that waits for /tmp/probing.begin and then does that. It
// returns also the frame of the kernel's that the bash will have changed, where
// getppid's function is too.
func (l *lab) probing() (bash *labtest.Command, page vmi.VirtAddr) {
	l.t.Helper()
	probed, err := l.kern.Symbols().Lookup("__x64_sys_getuid")
	if err != nil {
		l.t.Fatal(err)
	}
	page = probed &^ (xen.PageSize - 1)
	if va, err := l.kern.Symbols().Lookup(getppid); err != nil || va&^(xen.PageSize-1) != page {
		l.t.Fatalf("%s and getuid's function are not in one frame: %v and %v, %v", getppid, va, probed, err)
	}
	l.MustExec(l.t.Context(), "mkdir -p /tmp/tracing && mount -t tracefs nodev /tmp/tracing; rm -f /tmp/probing.begin; mkfifo /tmp/probing.begin")
	return l.Start(l.t.Context(), probing), page
}

// probed waits for its end: the probe was hit by all of its calls.
func (l *lab) probed(bash *labtest.Command) {
	l.t.Helper()
	out, status := bash.Wait(l.t.Context())
	// Other processes may have called it too.
	m := regexp.MustCompile(`profile: +govmi +(\d+) +0`).FindStringSubmatch(out)
	if status != 0 || m == nil || len(m[1]) == 1 && m[1] < "7" {
		l.t.Errorf("the guest says, with status %d: %s", status, out)
	}
	l.MustExec(l.t.Context(), "umount /tmp/tracing")
}

// The guest patches a frame of its kernel that has a breakpoint, by page tables
// made for it: on these the vCPU is outside the view, if only some processes are
// inside. The view shows what it wrote when the vCPU comes back, and the
// breakpoint stays.
func TestLabScopeGuestPatches(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("Xen has no views on AMD: the guest's own frames are patched")
	}
	for _, m := range []cr3filter.Mechanism{here(t)[0], cr3filter.EveryHit} {
		t.Run(m.String(), func(t *testing.T) {
			guestPatches(t, &cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{m}})
		})
	}
}

func guestPatches(t *testing.T, o *cr3filter.ScopeOptions) {
	ctx := t.Context()
	labtest.Intact(t, labtest.SharedGuest(t, labtest.Ordinary()))
	l := attach(t, labtest.Ordinary())
	bash, _ := l.probing()
	pid := int32(bash.PID())
	s := l.scope(cr3filter.Process{PID: pid}, o)
	stop := l.serve()
	defer stop()
	hits := map[int32]int{}
	l.count(s, getppid, hits)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	l.MustExec(ctx, "echo go >/tmp/probing.begin")
	l.probed(bash)
	stop()
	// The int3s with which the kernel patches and probes were given back to it.
	stats, err := s.Stats()
	if err != nil {
		t.Error(err)
	}
	if hits[pid] != 5 || len(hits) != 1 {
		t.Errorf("hits %v, want 5 of process %d", hits, pid)
	}
	b := stats.Breakpoints
	if b.Refreshed == 0 || b.Overwritten != 0 || stats.Unknown != 0 {
		t.Errorf("%+v, want frames refreshed", stats)
	}
	if always := o.Mechanisms[0] == cr3filter.EveryHit; always && b.Writes == 0 || !always && (b.Writes != 0 || b.Foreign == 0) {
		t.Errorf("%+v, want writes in the view if the vCPU is always inside (%v), or int3s given back", stats, always)
	}
	t.Logf("%+v", stats)
}

// untilWrite serves until it has answered the first write of the guest to a frame
// that it may not write to in its view.
type untilWrite struct {
	mon           *xen.Monitor
	writes, steps int
}

func (u *untilWrite) Serve(ctx context.Context, h xen.Handler) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return u.mon.Serve(ctx, func(r *xen.Request) xen.Response {
		switch r.Reason {
		case xen.ReasonMemAccess:
			if r.Access.Write { // it may read first
				u.writes++
				defer stop()
			}
		case xen.ReasonSingleStep:
			if u.writes > 0 {
				u.steps++
			}
		}
		return h(r)
	})
}

// A monitor detaches while a vCPU that writes to its kernel's code is out of the
// view for it, and steps. What it wrote is there, it steps no more, and the guest
// goes on with its patching.
func TestLabScopeDetachInWrite(t *testing.T) {
	if !labtest.VMX() {
		t.Skip("Xen has no views on AMD: the guest's own frames are patched")
	}
	ctx := t.Context()
	l := attach(t, labtest.Ordinary())
	half := &untilWrite{mon: l.mon}
	l.loop = vmi.NewLoop(half)
	bash, page := l.probing()
	code := func() []byte {
		b := make([]byte, xen.PageSize)
		if _, err := l.kern.AddressSpace().Read(page, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	before := code()
	// All vCPUs are in the view.
	s := l.scope(cr3filter.Process{PID: int32(bash.PID())}, &cr3filter.ScopeOptions{Mechanisms: []cr3filter.Mechanism{cr3filter.EveryHit}})
	hits := map[int32]int{}
	l.count(s, getppid, hits)
	served := make(chan error, 1)
	go func() { served <- l.loop.Run(ctx) }()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	// It is told so by a command that the guest ends when nobody is attached any
	// more.
	told := make(chan error, 1)
	go func() {
		_, _, err := l.Guest.Guest.Exec(ctx, "echo go >/tmp/probing.begin")
		told <- err
	}()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("loop: %v", err)
	}
	for end := time.Now().Add(time.Minute); bytes.Equal(code(), before) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	written := code()
	if half.writes != 1 || half.steps != 0 || bytes.Equal(written, before) {
		t.Errorf("%d writes and %d steps served, written %v; want one write that is not answered for yet", half.writes, half.steps, !bytes.Equal(written, before))
	}
	stats, err := s.Stats()
	if err != nil || stats.Breakpoints.Writes != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
	if err := errors.Join(s.Close(), l.mon.Close()); err != nil {
		t.Error(err)
	}
	l.probed(bash)
	if err := <-told; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(code(), before) {
		t.Error("the frame is not as it was before the probe")
	}
}
