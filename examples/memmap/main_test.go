package main

import (
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	viewtest.Lines(t, viewtest.Run(t, tool(), "-pid", "1"),
		`0x\w+ +0x\w+ +rw-p +0 +0:0 +0 +\[stack\]`,
	)
	viewtest.JSON(t, tool, []string{"Start", "Name"}, "-pid", "1")
}
