package main

import (
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	if out := viewtest.Run(t, tool()); out != "FINDING  NUMBER  NAME  ADDRESS  WHERE\n" {
		t.Errorf("found:\n%s", out)
	}
}
