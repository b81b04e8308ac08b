package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

const heading = "FINDING  NUMBER  NAME  ADDRESS  WHERE\n"

// TestRecording has a recording without the kernel's code: what can be checked is,
// and a note tells of the rest.
func TestRecording(t *testing.T) {
	if out := viewtest.Run(t, tool(), "-code=false"); out != heading {
		t.Errorf("found:\n%s", out)
	}
	var out, msg bytes.Buffer
	status := tool().Status(t.Context(), []string{"-image", viewtest.Recording}, &out, &msg)
	if status != 0 || out.String() != heading || !strings.Contains(msg.String(), "the code was not checked") {
		t.Errorf("status %d, %q, %q", status, msg.String(), out.String())
	}
	out.Reset()
	msg.Reset()
	status = tool().Status(t.Context(), []string{"-image", viewtest.Recording, "-baseline", viewtest.Recording}, &out, &msg)
	if status != 1 || !strings.Contains(msg.String(), "does not have this frame") {
		t.Errorf("a baseline without code: status %d, %q", status, msg.String())
	}
}
