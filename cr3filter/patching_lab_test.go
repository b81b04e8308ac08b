//go:build lab

package cr3filter_test

import (
	"regexp"
	"testing"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/labtest"
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
	probed, err := l.kern.Symbols().Lookup("__x64_sys_getuid")
	if err != nil {
		t.Fatal(err)
	}
	if va, err := l.kern.Symbols().Lookup(getppid); err != nil || va/xen.PageSize != probed/xen.PageSize {
		t.Fatalf("%s and getuid's function are not in one frame: %v and %v, %v", getppid, va, probed, err)
	}
	l.MustExec(ctx, "mkdir -p /tmp/tracing && mount -t tracefs nodev /tmp/tracing; rm -f /tmp/probing.begin; mkfifo /tmp/probing.begin")
	bash := l.Start(ctx, probing)
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
	out, status := bash.Wait(ctx)
	// Other processes may have called it too.
	m := regexp.MustCompile(`profile: +govmi +(\d+) +0`).FindStringSubmatch(out)
	if status != 0 || m == nil || len(m[1]) == 1 && m[1] < "7" {
		t.Errorf("the guest says, with status %d: %s", status, out)
	}
	l.MustExec(ctx, "umount /tmp/tracing")
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
