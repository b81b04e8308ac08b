package main

import (
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	viewtest.Lines(t, viewtest.Run(t, tool()),
		`workload +\d+ +0 +\d+ +sock +0:\d+ +\d+ +socket:\[\d+\] 127.0.0.1:5353->0.0.0.0:0 UNCONN`,
		`workload +\d+ +0 +\d+ +file +0:\d+ +\d+ +/tmp/hold.deleted \(deleted\)`,
		`workload +\d+ +0 +exe +0:0 +0 +/bin/workload`,
	)
	viewtest.JSON(t, tool, []string{"FD", "Path"})
}
