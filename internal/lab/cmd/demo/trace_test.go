package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTraceCounts(t *testing.T) {
	tr := newTrace()
	for _, text := range []string{
		`bash[214] <... openat resumed>) = 3`,
		`bash[214] read(3, "g", 1) = 1`,
		`bash[214] clone(child_stack=NULL, flags=SIGCHLD) = 220`,
		`bash[214] wait4(-1, <unfinished ...>`,
		`cat[220] read(3, "x", 1) = 1`,
		`bash[214] <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 220`,
		`bash[214] openat(AT_FDCWD, "/tmp/demo.end", O_RDONLY) = 3`,
		`bash[214] read(3, "g", 1) = 1`,
		`bash[214] execve("/bin/busybox", ["busybox"], 0x55 /* 3 vars */) = 0`,
		`busybox[214] exit_group(7) = ?`,
		`busybox[214] +++ exited with 7 +++`,
	} {
		tr.add(text, 214)
	}
	if diff := cmp.Diff(map[string]int{"openat": 1, "read": 1, "clone": 1, "wait4": 1}, tr.calls); diff != "" {
		t.Errorf("calls before the second pipe (-want +got):\n%s", diff)
	}
	if tr.all["execve"] != 1 || tr.all["read"] != 2 || tr.exit != 7 {
		t.Errorf("in all %v, exit %d", tr.all, tr.exit)
	}
	if diff := cmp.Diff([]string{`cat[220] read(3, "x", 1) = 1`}, tr.others); diff != "" {
		t.Errorf("others (-want +got):\n%s", diff)
	}
}

func TestCompare(t *testing.T) {
	var out bytes.Buffer
	if err := compare(&out, []row{{"reads", 3, 3}}); err != nil || !strings.Contains(out.String(), "agree") {
		t.Errorf("equal: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := compare(&out, []row{{"reads", 3, 3}, {"writes", 2, 1}}); !errors.Is(err, errDisagree) || !strings.Contains(out.String(), "differs") {
		t.Errorf("unequal: %v\n%s", err, out.String())
	}
}
