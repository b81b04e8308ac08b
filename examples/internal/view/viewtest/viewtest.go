// Package viewtest runs the examples on the recording of a guest that the module
// has in testdata.
package viewtest

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/view"
)

// Recording is the recording, seen from a folder below examples.
const Recording = "../../testdata/guests/linux-6.1.rec"

// Run returns what a tool prints of the recording.
func Run(t *testing.T, tool view.Tool, args ...string) string {
	t.Helper()
	var out, msg bytes.Buffer
	if status := tool.Status(t.Context(), append([]string{"-image", Recording}, args...), &out, &msg); status != 0 {
		t.Fatalf("%s %q: status %d: %s", tool.Name, args, status, msg.String())
	}
	return out.String()
}

// Lines fails the test unless each expression matches a line of a tool's table.
func Lines(t *testing.T, out string, expressions ...string) {
	t.Helper()
	for _, e := range expressions {
		if !regexp.MustCompile(`(?m)^` + e + `$`).MatchString(out) {
			t.Errorf("no line matches %s in:\n%s", e, out)
		}
	}
}

// JSON fails the test unless a tool prints as many objects, all of which have the
// names, as its table has lines.
func JSON(t *testing.T, tool func() view.Tool, names []string, args ...string) {
	t.Helper()
	want := strings.Count(Run(t, tool(), args...), "\n") - 1
	n := 0
	for line := range strings.Lines(Run(t, tool(), append(args, "-json")...)) {
		var o map[string]any
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, name := range names {
			if _, ok := o[name]; !ok {
				t.Fatalf("%q lacks %s", line, name)
			}
		}
		n++
	}
	if n != want || n == 0 {
		t.Errorf("%d objects, %d lines", n, want)
	}
}
