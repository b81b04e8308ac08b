package main

import (
	"strings"
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	all := viewtest.Run(t, tool())
	viewtest.Lines(t, all, `\[ +0\.000000\] Linux version 6\.1\..*`)
	if errors := viewtest.Run(t, tool(), "-level", "4"); strings.Count(errors, "\n") >= strings.Count(all, "\n") {
		t.Error("as many warnings as messages")
	}
	if out := viewtest.Run(t, tool(), "-json"); !strings.HasPrefix(out, `{"Seq":0,`) {
		t.Errorf("%.100s", out)
	}
}
