package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/examples/internal/session/sessiontest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

func TestUsage(t *testing.T) {
	refused := sessiontest.Refusing(t, func(ctx context.Context, args []string, out, msg io.Writer) int {
		return run(ctx, nil, args, out, msg)
	})
	refused("-domain is missing")
	refused("one of -pid and -comm", "-domain", "g")
	refused("one of -pid and -comm", "-domain", "g", "-pid", "1", "-comm", "sh")
	refused(`-pid "x"`, "-domain", "g", "-pid", "1,x")
	refused(`-pid ""`, "-domain", "g", "-pid", "1,,2")
	refused(`-pid "-1"`, "-domain", "g", "-pid", "-1")
	refused(`-pid "5000000"`, "-domain", "g", "-pid", "5000000")
	refused("has passed", "-domain", "g", "-pid", "1", "-for", "-1s")
	refused(`unexpected argument "more"`, "-domain", "g", "-pid", "1", "more")
	var msg bytes.Buffer
	got, err := parse([]string{"-domain", "g", "-pid", "7, 9", "-q", "-for", "3s"}, &msg)
	want := options{domain: "g", pids: []int32{7, 9}, quiet: true, time: 3 * time.Second}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(options{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestSwitches(t *testing.T) {
	at := time.Unix(100, 0)
	w := &watch{begun: at, now: func() time.Time { at = at.Add(time.Millisecond); return at }, procs: map[vmi.PhysAddr]*watched{
		0x1000: {pid: 7, name: "sh", since: map[xen.VCPU]time.Time{}},
		0x2000: {pid: 9, name: "ls", since: map[xen.VCPU]time.Time{}, gone: true},
	}}
	for _, s := range []cr3filter.Switch{{VCPU: 0, From: 0x9000, To: 0x1000}, {VCPU: 1, From: 0x9000, To: 0x1000}, {VCPU: 0, From: 0x1000, To: 0x2000}, {VCPU: 0, From: 0x2000, To: 0x9000}} {
		w.switched(s)
	}
	var out bytes.Buffer
	if err := errors.Join(w.flush(&out), w.flush(&out), w.summary(&out)); err != nil {
		t.Fatal(err)
	}
	want := `    0.001000 vCPU 0: others -> sh[7]
    0.002000 vCPU 1: others -> sh[7]
    0.003000 vCPU 0: sh[7] -> ls[9]
    0.004000 vCPU 0: ls[9] -> others
sh[7]: entered 2 times, ran 0.002000 s
ls[9]: entered 1 times, ran 0.001000 s, ended
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// Lines that nobody reads in time are counted.
func TestLostLines(t *testing.T) {
	w := &watch{now: time.Now, lines: make([]byte, maxLines)}
	w.switched(cr3filter.Switch{From: 0x1000, To: 0x2000})
	var out bytes.Buffer
	if err := w.summary(&out); err != nil || !strings.HasPrefix(out.String(), "1 switches were counted but not printed") {
		t.Errorf("%q, %v", out.String(), err)
	}
}
