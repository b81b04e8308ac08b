package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the message
	}{
		{nil, "-domain is missing"},
		{[]string{"-domain", "g", "extra"}, `unexpected argument "extra"`},
		{[]string{"-domain", "g"}, "one of -pid and -comm"},
		{[]string{"-domain", "g", "-pid", "1", "-comm", "sh"}, "one of -pid and -comm"},
		{[]string{"-domain", "g", "-pid", "-1"}, "-pid -1"},
		{[]string{"-domain", "g", "-comm", ""}, "-comm is empty"},
	} {
		var out, msg bytes.Buffer
		if status := run(t.Context(), nil, tt.args, &out, &msg); status != 2 || !strings.Contains(msg.String(), tt.want) || out.Len() != 0 {
			t.Errorf("%q: status %d, %q, output %q", tt.args, status, msg.String(), out.String())
		}
	}
}
