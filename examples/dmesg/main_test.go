package main

import (
	"strings"
	"testing"
	"time"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
	"github.com/govmi/govmi/vmi/linux"
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

func TestTimeOfDay(t *testing.T) {
	c := linux.Clock{Uptime: 100 * time.Second, Wall: time.Date(2026, 3, 1, 0, 1, 0, 0, time.UTC)}
	if got := timeOfDay(c)(10*time.Second + 5*time.Millisecond); got != "2026-02-28 23:59:30.005" {
		t.Error(got)
	}
}
