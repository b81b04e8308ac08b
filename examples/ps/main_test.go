package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
	"github.com/govmi/govmi/vmi/linux"
)

func TestRecording(t *testing.T) {
	viewtest.Lines(t, viewtest.Run(t, tool()),
		`UID +PID +TID +PPID +PGID +SID +S +START +COMMAND`,
		`0 +1 +1 +0 +\d+ +\d+ +S +\S+ +/bin/busybox sh /init`,
		`65534 +(\d+) +(\d+) +\d+ +(\d+) +(\d+) +S +\S+ +/bin/busybox sleep 1000`,
		`0 +\d+ +\d+ +\d+ +\d+ +\d+ +Z +\S+ +\[busybox\]`,
		`0 +\d+ +\d+ +\d+ +\d+ +\d+ +T +\S+ +/bin/bash -c .*kill -STOP \$\$  an argument\?`,
		`0 +2 +2 +0 +0 +0 +S +\S+ +\[kthreadd\]`,
	)
	viewtest.Lines(t, viewtest.Run(t, tool(), "-T", "-e"),
		`0 +\d+ +\d+ +\d+ +\d+ +\d+ +S +\S+ +\{workload\} workload proc .*`,
		`.*sleep 1000 A=1 2 B= LONG=x+`,
	)
	viewtest.JSON(t, tool, []string{"PID", "Args", "EUID", "State"})
}

// TestTree has a guest that says that its processes are each other's parents.
func TestTree(t *testing.T) {
	p := func(pid, parent int32) process {
		return process{Process: linux.Process{PID: pid, TGID: pid, Parent: parent}}
	}
	var got [][2]int
	for q := range tree([]process{p(9, 4), p(1, 0), p(4, 1), p(2, 0), p(7, 8), p(8, 7), p(5, 5), p(3, 1)}) {
		got = append(got, [2]int{int(q.PID), q.depth})
	}
	want := [][2]int{{1, 0}, {3, 1}, {4, 1}, {9, 2}, {2, 0}, {5, 0}, {8, 0}, {7, 1}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if slices.Collect(tree(nil)) != nil {
		t.Error("of nothing")
	}
}
