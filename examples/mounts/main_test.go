package main

import (
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	viewtest.Lines(t, viewtest.Run(t, tool()),
		`\d+ +\d+ +\d+:\d+ +/ +/proc +proc +proc +rw`,
		`\d+ +\d+ +\d+:\d+ +/ +/tmp +tmpfs +tmpfs +rw`,
	)
	viewtest.JSON(t, tool, []string{"Point", "Device"})
}
