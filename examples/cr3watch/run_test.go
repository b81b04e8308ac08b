package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the message
	}{
		{nil, "-domain is missing"},
		{[]string{"-domain", "g"}, "one of -pid and -comm"},
		{[]string{"-domain", "g", "-pid", "1", "-comm", "sh"}, "one of -pid and -comm"},
		{[]string{"-domain", "g", "-pid", "1,x"}, `-pid "x"`},
		{[]string{"-domain", "g", "-pid", "1,,2"}, `-pid ""`},
		{[]string{"-domain", "g", "-pid", "-1"}, `-pid "-1"`},
		{[]string{"-domain", "g", "-pid", "5000000"}, `-pid "5000000"`},
		{[]string{"-domain", "g", "-pid", "1", "-for", "-1s"}, "has passed"},
		{[]string{"-domain", "g", "-pid", "1", "more"}, `unexpected argument "more"`},
	} {
		var out, msg bytes.Buffer
		if status := run(t.Context(), nil, tt.args, &out, &msg); status != 2 || !strings.Contains(msg.String(), tt.want) || out.Len() != 0 {
			t.Errorf("%q: status %d, message %q, output %q", tt.args, status, msg.String(), out.String())
		}
	}
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
