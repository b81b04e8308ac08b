package main

import (
	"testing"

	"github.com/govmi/govmi/examples/internal/view/viewtest"
)

func TestRecording(t *testing.T) {
	viewtest.Lines(t, viewtest.Run(t, tool()),
		`MODULE +SIZE +STATE +ADDRESS +REFS +USED-BY *`,
		`macvlan +\d+ +Live +0xffffffffc[0-9a-f]+ +1 +macvtap`,
		`dummy +\d+ +Live +0x\w+ +0 +`,
	)
	viewtest.JSON(t, tool, []string{"Name", "Ranges"})
}
