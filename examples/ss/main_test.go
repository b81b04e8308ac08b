package main

import (
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	viewtest.Lines(t, viewtest.Run(t, tool()),
		`udp +UNCONN +127.0.0.1:5353 +0.0.0.0:\* +0 +\d+ +workload\[\d+\]/\d+`,
		`tcp +LISTEN +127.0.0.1:\d+ +0.0.0.0:\* +0 +\d+ +workload\[\d+\]/\d+`,
		`u_dgr +UNCONN +@hold-abstract +\* +0 +\d+ +workload.*`,
	)
	viewtest.JSON(t, tool, []string{"Family", "Local", "Users"})
}
